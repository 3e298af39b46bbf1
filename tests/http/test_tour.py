# SPDX-License-Identifier: Apache-2.0
"""
Tour: the commands of README.md's "Five-minute tour" are run as a reader would paste them, in an empty directory,
against the real server; and the outputs that README shows are those that come. So are those of the "Examples" of
docs/QUERY.md.

    ```sh
    ./script/run                          the server, started here with its defaults, in the background
    curl -s localhost:8080/… -d '…'       one command, which may go on over several lines
    # → {"received":1,"accepted":1,…}     its output must hold this text; … stands for anything within a line
    pkill -9 -x millrace                  our own process is killed, by its id
    ```

Three things differ from what the reader does: the binary that the harness names takes the place of ./script/run and
of `millrace`, a free port that of 8080, and nobody else's millrace is killed. Every other word is the reader's. Commands
that only read (sqlite3, curl without a body) are repeated for a while until they say what is shown.
"""
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from harness import GIVE_UP_S, MILLRACE, ROOT, run

README = pathlib.Path(os.environ.get("MILLRACE_README", str(ROOT / "README.md")))
QUERIES = ROOT / "docs/QUERY.md"
HEADING = "## Five-minute tour"
ARROW = re.compile(r"^\s*# → ?(.*)$")
START = re.compile(r"^(?:\./script/run|(?:\S*/)?millrace(?:\s+serve)?)(?P<more>(?:\s+-[^&#|>]*?)?)\s*&?\s*(?:#.*)?$")
KILL = re.compile(r"^pkill\s+(?:-(?:SIG)?(?P<signal>(?!x\s)\w+)\s+)?(?:-x\s+)?millrace\s*(?:#.*)?$")
ELSEWHERE = re.compile(r"^(?:git clone|cd)\b")  # the reader gets the sources; the test has them
READS = re.compile(r"^(?:sqlite3|curl(?!.*\s(?:-d|--data\S*|-X|-T|-F|--json)\b))", re.DOTALL)
PORT = 8080
PATIENCE_S = GIVE_UP_S  # a reader takes longer than results.db needs to have what was sent


class Command:
    def __init__(self, text, line):
        self.text, self.line, self.expected = text, line, []

    def __repr__(self):
        return f"line {self.line}: {self.text}"


def section(readme):
    """(line number, text) of the lines between the tour's heading and the next heading of its rank."""
    lines, inside, fenced = [], False, False
    for number, line in enumerate(readme.splitlines(), 1):
        if inside and line.startswith("```"):
            fenced = not fenced
        if not fenced and line.startswith("## "):
            if inside:
                break
            inside = line.strip() == HEADING
        elif inside:
            lines.append((number, line))
    return lines


def is_whole(text):
    """Whether the shell would take this as a whole command: quotes closed, no backslash at the end."""
    if text.endswith("\\") or re.search(r"(?:\||&&|\|\|)\s*$", text):
        return False
    return subprocess.run(["sh", "-n"], input=text + "\n", capture_output=True, text=True).returncode == 0


def parse(readme):
    """The commands of the tour, each with the outputs shown below it."""
    commands, block, pending = [], False, None
    for number, line in section(readme):
        if line.startswith("```"):
            assert pending is None, f"line {number}: the block ends within a command: {pending}"
            block = not block and line.strip("` \t") in ("sh", "console", "bash")
            continue
        if not block:
            continue
        if pending is not None:
            pending.text += "\n" + line
        elif ARROW.match(line):
            assert commands, f"line {number}: an output before any command"
            commands[-1].expected.append(ARROW.match(line).group(1).strip())
            continue
        elif not line.strip() or line.lstrip().startswith("#"):
            continue
        else:
            pending = Command(line.strip(), number)
        if is_whole(pending.text):
            commands.append(pending)
            pending = None
    assert pending is None and not block, "the tour ends within a block"
    return commands


def pattern(expected):
    """An output as README shows it: … is anything within a line, white space in a row is white space."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in re.split(r"(?:…)+", expected)]
    return ".*".join(parts)


def find(expected, output):
    """Each expectation lies behind the one before it; returns the first that does not, or None."""
    at = 0
    for text in expected:
        match = re.search(pattern(text), output[at:])
        if match is None:
            return text
        at += match.end()
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Tour:
    """A reader: a directory, a terminal for the server and one for everything else."""

    def __init__(self, directory):
        self.directory = directory
        self.port = free_port()
        self.server = None
        self.log = directory / "server.txt"
        self.config = directory / ".tour.yaml"
        tools = directory / ".bin"
        tools.mkdir()
        (tools / "millrace").symlink_to(MILLRACE)
        for name in ("config", "tests"):  # what the reader has beside the server
            (directory / name).symlink_to(ROOT / name)
        self.environment = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}", LC_ALL="C.UTF-8")

    def ours(self, text):
        text = re.sub(r"(?<!\S)(?:\./)?build-release/server/millrace\b", "millrace", text)
        return re.sub(rf"\b{PORT}\b", str(self.port), text)

    def start(self, more):
        """The defaults but for the port: the example that says what the defaults are, and `http`."""
        assert self.server is None, "the server is running already"
        arguments = shlex.split(more)
        if "-c" not in arguments:
            text = (ROOT / "config/examples/default.yaml").read_text()
            self.config.write_text(text + f"\nhttp: {{ listen: 127.0.0.1:{self.port} }}\n")
            arguments += ["-c", str(self.config)]
        with open(self.log, "ab") as log:
            said = log.tell()
            self.server = subprocess.Popen([MILLRACE, "serve", *arguments], cwd=self.directory, stdout=log,
                                           stderr=log, stdin=subprocess.DEVNULL, env=self.environment)
        self.wait_ready()
        return self.log.read_bytes()[said:].decode(errors="replace")

    def wait_ready(self):
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=GIVE_UP_S).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.server.poll() is None, f"the server ended: {self.log.read_text(errors='replace')}"
                assert time.monotonic() < deadline, "the server did not get ready"
                time.sleep(0.01)

    def kill(self, name):
        assert self.server is not None, "there is no server to kill"
        name = name or "TERM"
        number = int(name) if name.isdigit() else getattr(signal, "SIG" + name)
        self.server.send_signal(number)
        self.server.wait(GIVE_UP_S)
        self.server = None
        return ""

    def shell(self, text):
        done = subprocess.run(["bash", "-c", self.ours(text)], cwd=self.directory, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment,
                              timeout=GIVE_UP_S)
        output = done.stdout.decode(errors="replace")
        assert done.returncode == 0, f"`{text}` ended with {done.returncode}: {output}"
        return output

    def step(self, command):
        start, kill = START.match(command.text), KILL.match(command.text)
        if ELSEWHERE.match(command.text):
            return ""
        if start is not None:
            return self.start(start.group("more"))
        if kill is not None:
            return self.kill(kill.group("signal"))
        assert not re.search(r"\b(?:pkill|killall)\b", command.text), f"{command}: kills by name"
        return self.shell(command.text)

    def close(self):
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.wait()


def check(tour, command, patience_s):
    """Runs a command; its output must hold what README shows."""
    expected = [tour.ours(text) for text in command.expected]
    deadline = time.monotonic() + (patience_s if READS.match(command.text) else 0)
    while True:
        output = tour.step(command)
        missing = find(expected, output)
        if missing is None:
            return
        assert time.monotonic() < deadline, f"{command}\nREADME shows: {missing}\nbut it says:\n{output}"
        time.sleep(0.05)


def follow(readme, patience_s=PATIENCE_S):
    """Runs the tour; returns how many commands and how many outputs it had."""
    commands = parse(readme)
    with tempfile.TemporaryDirectory(prefix="millrace-tour-") as directory:
        tour = Tour(pathlib.Path(directory))
        try:
            for command in commands:
                check(tour, command, patience_s)
        finally:
            tour.close()
    return len(commands), sum(len(c.expected) for c in commands)


SMALL = r"""
# A project
```sh
false # not in the tour
```
## Five-minute tour
Start it:
```sh
git clone https://example.org/millrace && cd millrace
./script/run
# → …event=listening url=http://127.0.0.1:8080 …
```
Then, in another terminal:
```sh
curl -s localhost:8080/v1/events -d '{"id":"1","type":"click","source":"web","time":"2026-01-01T00:00:10Z"}
{"id":"2","type":"click","source":"web","time":"2026-01-01T00:00:11Z"}'
# → {"received":2,"accepted":2,"duplicate":0,…}

# the same once more
curl -s localhost:8080/v1/events \
     -d '{"id":"1","type":"click","source":"web","time":"2026-01-01T00:00:10Z"}'
# → …"duplicate":1…
```
```json
{"this": "is no command"}
```
```sh
pkill -9 -x millrace
./script/run &
curl -s 'http://127.0.0.1:8080/v1/rules/events_by_type/windows?format=csv' | cat
# → window_start,…
# → 2026-01-01T00:00:00.000Z,…click…
sqlite3 millrace-data/results.db '.tables'
# → events_by_type
```
## Next
```sh
false # not in the tour
```
"""


def test_the_tour_of_the_readme():
    commands, outputs = follow(README.read_text())
    assert commands >= 6 and outputs >= 6, f"{commands} commands and {outputs} outputs: is this the tour?"


def test_the_examples_of_the_queries():
    text = QUERIES.read_text()
    assert text.count("## Examples\n") == 1
    commands, outputs = follow(text.replace("## Examples\n", HEADING + "\n"))
    assert commands >= 6 and outputs >= 10, (commands, outputs)


def test_a_small_tour_is_followed():
    assert follow(SMALL) == (8, 6)


def expect_noticed(follow_one, document, right, wrong):
    assert document.count(right) == 1, right
    try:
        follow_one(document.replace(right, wrong), patience_s=0.2)
    except AssertionError:
        return
    raise AssertionError(f"`{wrong}` instead of `{right}` was not noticed")


def test_wrong_outputs_are_noticed():
    for right, wrong in (('"accepted":2,"duplicate":0', '"accepted":1,"duplicate":0'),
                         ('"duplicate":1…', '"duplicate":2…'),
                         ("00:00:00.000Z,…click…", "00:00:00.000Z,…view…"),
                         ("# → events_by_type", "# → nothing"),
                         ("event=listening", "event=sleeping"),
                         ("sqlite3 millrace-data", "sqlite3 nowhere/millrace-data"),
                         ("pkill -9 -x millrace", "true"),
                         ("# → window_start,…\n", "# → 2026-01-01T00:00:00.000Z,…\n")):
        expect_noticed(follow, SMALL, right, wrong)


if __name__ == "__main__":
    run(globals())
