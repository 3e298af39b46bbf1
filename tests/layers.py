# SPDX-License-Identifier: Apache-2.0
"""
Layers: folders include downwards only, a third-party header appears in one file, and every file begins with the
licence line. Ends with `N passed, N failed`.
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BELOW = {
    "base": set(),
    "net": {"base"},
    "config": {"base"},
    "event": {"base"},
    "log": {"base"},
    "bloom": {"base"},
    "dedup": {"base", "bloom", "net"},
    "aggregate": {"base", "event"},
    "sink": {"base", "net"},
}
BELOW["pipeline"] = set(BELOW)
BELOW["server"] = set(BELOW)
THIRD_PARTY = re.compile(r"<((?:ck_|gnutls/|openssl/)\w+\.h|xxhash\.h|zlib\.h|zstd\w*\.h|yaml\.h|sqlite3\.h|microhttpd\.h|"
                         r"hiredis/\w+\.h|jemalloc/\w+\.h)>")


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            yield path, path.relative_to(ROOT), path.read_text()


def includes_go_downwards():
    wrong = []
    for path, name, text in sources(*BELOW):
        room = name.parts[0]
        for found in re.findall(r'^#include "(\w+)/', text, re.M):
            if found != room and found not in BELOW[room]:
                wrong.append(f"{name} includes {found}/")
    return wrong


def third_party_headers_have_one_file():
    users = collections.defaultdict(set)
    for path, name, text in sources(*BELOW):
        for header in THIRD_PARTY.findall(text):
            users[header].add(str(name))
    return [f"<{header}> in {', '.join(sorted(files))}" for header, files in users.items() if len(files) > 1]


def files_begin_with_the_licence():
    return [str(name) for path, name, text in sources(*BELOW, "bench", "tests")
            if not text.startswith("/* SPDX-License-Identifier: Apache-2.0 */")]


def main():
    failed = 0
    checks = (includes_go_downwards, third_party_headers_have_one_file, files_begin_with_the_licence)
    for check in checks:
        wrong = check()
        print(("FAIL " if wrong else "ok   ") + check.__name__)
        for line in wrong:
            print("     " + line)
        failed += bool(wrong)
    print(f"{len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
