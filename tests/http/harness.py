# SPDX-License-Identifier: Apache-2.0
"""
Harness: starts the real server for a test, in a temporary directory, on a free port, and stops it by process id.

Every test file here is a program: it runs its functions named test_*, prints a line for each, and ends with
`N passed, N failed`. The server's binary is named by MILLRACE (set by the test script).
"""
import contextlib
import gzip
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
MILLRACE = os.environ.get("MILLRACE", str(ROOT / "build-release/server/millrace"))
GIVE_UP_S = 60 * float(os.environ.get("MILLRACE_PATIENCE", "1"))


def until(what, true):
    """Asks until it is so; a wait without a measured time."""
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        got = true()
        if got:
            return got
        assert time.monotonic() < deadline, "in vain: " + what
        time.sleep(0.02)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Server:
    """One data directory, and a process over it that may be killed and started again."""

    def __init__(self, config="", directory=None, options=(), tls=False):
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="millrace-test-"))
        self.own = directory is None
        self.tls = tls
        self.config = self.directory / "config.yaml"
        self.configure(config)
        self.options = list(options)
        self.process = None
        self.log = None
        self.log_began = 0  # where the reports of the newest process begin
        self.port = None

    def configure(self, config):
        """What the next start reads."""
        text = config.replace("@DIR@", str(self.directory))
        if "listen:" not in text:
            text += "\nhttp: { listen: 127.0.0.1:0 }\n"
        if "data_dir:" not in text:
            if "\nnode:" in "\n" + text:
                raise ValueError("a node section must name its data_dir")
            text += f"\nnode: {{ data_dir: {self.directory}/data, shards: 1 }}\n"
        self.config.write_text(text)

    def start(self, expect_failure=False):
        self.log = open(self.directory / "stderr.txt", "ab")
        self.log_began = self.log.tell()
        self.process = subprocess.Popen([MILLRACE, "serve", "-c", str(self.config), *self.options],
                                        stdout=subprocess.DEVNULL, stderr=self.log,
                                        stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            text = self.said()
            found = re.search(r"event=listening url=https?://\S+:(\d+) ", text)
            if found:
                self.port = int(found.group(1))
                return self
            if self.process.poll() is not None:
                if expect_failure:
                    return self
                raise AssertionError(f"the server ended with {self.process.returncode}: {text}")
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not start: {text}")
            time.sleep(0.005)

    def stderr(self):
        return (self.directory / "stderr.txt").read_text(errors="replace")

    def said(self):
        """What the newest process has reported."""
        if self.log is None:
            return ""
        with open(self.directory / "stderr.txt", "rb") as file:
            file.seek(self.log_began)
            return file.read().decode(errors="replace")

    def reported(self, event):
        """The newest process's reports of this event, each as a dict of its values as text."""
        value = r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))'
        return [{key: quoted or plain for key, quoted, plain in re.findall(value, line)}
                for line in re.findall(rf"^ts=\S+ level=\w+ event={event}\b(.*)$", self.said(), re.M)]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(GIVE_UP_S)
        self.log.close()
        return code

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=GIVE_UP_S)

    def request(self, method, path, body=None, headers=None, connection=None):
        own = connection is None
        connection = connection or self.connect()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            if own:
                connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, content_type="application/x-ndjson", headers=None, connection=None):
        headers = dict(headers or {})
        if content_type is not None:
            headers["Content-Type"] = content_type
        if isinstance(body, str):
            body = body.encode()
        return self.request("POST", path, body=body, headers=headers, connection=connection)

    def raw(self, data, wait=GIVE_UP_S):
        """Sends bytes as they are, then reads until the server closes; returns what came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as s:
            got = b""
            try:
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        return got
                    got += piece
            except (BrokenPipeError, ConnectionResetError, OSError) as e:
                if isinstance(e, TimeoutError):
                    raise
                return got  # closed on us, which is an answer

    def rows(self, rule, **query):
        """All rows of a rule, page by page."""
        rows, cursor = [], None
        while True:
            parameters = dict(query, limit=query.get("limit", 10000))
            if cursor:
                parameters["cursor"] = cursor
            answer = self.get(f"/v1/rules/{rule}/windows?" + urllib.parse.urlencode(parameters))
            assert answer.status == 200, answer
            page = answer.json
            rows += page["rows"]
            cursor = page["next_cursor"]
            if not cursor:
                return rows

    def metric(self, name, **labels):
        """The sum of a metric's samples that have these labels."""
        total, found = 0.0, False
        for line in self.get("/metrics").body.decode().splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if not match or match.group(1) != name:
                continue
            have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match.group(2) or ""))
            if all(have.get(k) == v for k, v in labels.items()):
                total += float(match.group(3))
                found = True
        assert found, f"no sample of {name} {labels}"
        return total

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.own:
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def server(config="", **more):
    s = Server(config, **more)
    try:
        yield s.start()
    except BaseException:
        if s.process is not None:
            sys.stderr.write(s.stderr()[-4000:])
        raise
    finally:
        s.close()


def check_ledger(s, stream):
    """L7: what was received has ended in exactly one state, and every accepted event too, for each rule."""
    verdict = lambda v: s.metric("millrace_events_total", stream=stream, verdict=v)
    received = s.metric("millrace_events_received_total", stream=stream)
    accepted = verdict("accepted")
    assert received == accepted + verdict("duplicate") + verdict("late") + verdict("rejected"), \
        s.get("/metrics").body.decode()
    return int(received), int(accepted)


def run(tests):
    """Runs the test_* functions of a module; arguments on the command line choose some by name."""
    chosen = sys.argv[1:]
    passed = failed = 0
    for name, test in list(tests.items()):
        if not name.startswith("test_") or not callable(test) or (chosen and name not in chosen):
            continue
        began = time.monotonic()
        try:
            test()
            passed += 1
            print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAIL {name}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or passed == 0 else 0)
