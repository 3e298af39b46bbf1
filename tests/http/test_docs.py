# SPDX-License-Identifier: Apache-2.0
"""
Documents say what is true: every test that docs/GUARANTEES.md names exists and is run, every promise names one, the
bound on collisions is computed again; docs/CONFIG.md is what the program prints; links lead somewhere.
"""
import pathlib
import re
import subprocess

from harness import MILLRACE, ROOT, run

GUARANTEES = ROOT / "docs/GUARANTEES.md"
REFERENCE = re.compile(r"`((?:\w+/)+\w+\.(?:c|py)):(\w+)`")


def promises(text):
    """(number, text) of every numbered sentence."""
    found = re.split(r"(?m)^(\d+)\. ", re.sub(r"(?m)^## .*$", "", text))
    return [(int(n), body.split("\n\n")[0]) for n, body in zip(found[1::2], found[2::2])]


def problem_with(file, function):
    """Why a reference does not hold; None: it does."""
    path = ROOT / "tests" / file
    if not path.is_file():
        return f"tests/{file} does not exist"
    source = path.read_text()
    if path.suffix == ".py":
        if not re.search(rf"(?m)^def {function}\(\w*\):", source):
            return f"tests/{file} has no test {function}"
        return None if function.startswith("test_") and "run(globals())" in source else f"{function} is not run"
    # A comment does not make a test.
    code = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    if not re.search(rf"(?m)^(?:static )?(?:\w+ )+\*?{function}\(", code):
        return f"tests/{file} has no function {function}"
    uses = len(re.findall(rf"\b{function}\b", code))
    if path.name.startswith("test_") and not re.search(rf"(?:cmocka_unit_test\w*|[A-Z_]+)\(\s*{function}\b", code):
        return f"tests/{file}: {function} is not in the list of tests"
    built = path.parent / "meson.build"
    listed = path.name in built.read_text() or f"'{path.stem}'" in built.read_text() or \
        f"'{path.stem.removeprefix('test_')}'" in built.read_text()
    if not listed:
        return f"tests/{file} is not built"
    return None if uses > 1 else f"tests/{file}: nobody calls {function}"


def test_every_named_test_exists():
    references = REFERENCE.findall(GUARANTEES.read_text())
    assert len(references) > 60, len(references)
    problems = {problem_with(*reference) for reference in references} - {None}
    assert not problems, "\n".join(sorted(problems))


def test_every_promise_names_a_test():
    text = GUARANTEES.read_text()
    numbered = promises(text.split("\n## Not promised")[0])
    assert [n for n, _ in numbered] == list(range(1, len(numbered) + 1)), "the numbers have a gap"
    assert len(numbered) > 40
    bare = [n for n, body in numbered if not REFERENCE.search(body)]
    assert not bare, f"promises without a test: {bare}"
    # What looks like a reference is one: no test of another spelling goes unchecked.
    odd = [t for t in re.findall(r"`([^`]*)`", text) if re.search(r"test_\w+\.|\.c:|\.py:", t)
           and not REFERENCE.fullmatch(f"`{t}`") and not (ROOT / t).exists()]
    assert not odd, odd


def test_references_that_do_not_hold_are_noticed():
    assert problem_with("http/test_query.py", "test_formats") is None
    assert problem_with("log/test_damage.c", "every_byte_flipped") is None
    for file, function in (("http/test_query.py", "test_nothing"), ("http/test_query.py", "as_table"),
                           ("log/test_nothing.c", "every_byte_flipped"), ("log/test_damage.c", "every_byte_flip"),
                           ("log/test_damage.c", "overwrite"), ("log/test_damage.c", "damaged"), ("sim/model.c", "model")):
        assert problem_with(file, function) is not None, (file, function)


def test_the_collision_bound():
    text = GUARANTEES.read_text()
    rows = re.findall(r"(?m)^\| (1e\d+) \| (\S+) \|$", text)
    assert [n for n, _ in rows] == ["1e9", "1e10", "1e12"], rows
    assert "1.6 n / 2^88" in text
    for n, lost in rows:
        assert f"{1.6 * float(n) / 2 ** 88:.1e}" == lost, (n, lost)


def test_config_is_what_the_program_prints():
    printed = subprocess.run([MILLRACE, "help", "config", "markdown"], capture_output=True, check=True).stdout.decode()
    assert printed.startswith("# Configuration\n") and len(printed) > 4000
    assert (ROOT / "docs/CONFIG.md").read_text() == printed, \
        "docs/CONFIG.md is old: millrace help config markdown >docs/CONFIG.md"


def test_links_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    assert len(documents) >= 3, documents
    broken = []
    for document in documents:
        prose = re.sub(r"(?ms)^```.*?^```", "", document.read_text())
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            target = link.split("#")[0]
            if target and not re.match(r"\w+:", link) and not (document.parent / target).exists():
                broken.append(f"{document.relative_to(ROOT)}: {link}")
    assert not broken, "\n".join(broken)


if __name__ == "__main__":
    run(globals())
