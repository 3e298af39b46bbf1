# SPDX-License-Identifier: Apache-2.0
"""
What lookups' files once held, kept in the data directory, against the real program.

Proves: the content of a lookup that was changed stays as long as the log has a record that was taken under it, so that
a start from zero gives the rows that there were; it is removed by the first start whose log has none; and one that comes
back into use is not removed for what was noted of it before.
"""
import contextlib
import json
import shutil
import sys

from harness import Server, run, until

BASE = 1790000000000
CONFIG = """
limits: { body: 256KiB, inflated: 256KiB, event: 64KiB, batch_events: 2000, in_flight: 16MiB }
log: { segment: 1280KiB, retain: off, retain_bytes: 2560KiB }
checkpoint: { every: 1h }
lookups:
  towns: { file: @DIR@/towns.csv, key: id, value: town }
streams:
  s: { id: id, time: { field: t, format: ms }, derive: { town: 'lookup("towns", at)' },
       watermark: { out_of_orderness: 0s, idle_timeout: off } }
rules:
  r: { from: s, group_by: [town], window: { type: tumbling, size: 1s }, allowed_lateness: 0s, metrics: { n: count } }
"""
A, B = ("id,town\n1,Ulm\n", "id,town\n1,Bonn\n")


class Life:
    """A server, and how many events each second had, of which town."""

    def __init__(self, s):
        self.s, self.sent, self.want = s, 0, {}

    def start_with(self, towns):
        (self.s.directory / "towns.csv").write_text(towns)
        self.town = towns.split(",")[-1].strip()
        self.s.start()

    def send(self, count=200, pad=500):
        # A second of its own for each request, so that no window is under way when the rule begins anew.
        at = BASE + self.sent * 1000
        events = [{"id": f"{self.sent}-{k}", "t": at, "at": 1, "pad": "x" * pad} for k in range(count)]
        answer = self.s.post("/v1/streams/s/events", "\n".join(map(json.dumps, events)))
        assert answer.json["accepted"] == count, answer
        self.want[at] = (self.town, count)
        self.sent += 1

    def checkpoint(self):
        assert self.s.request("POST", "/v1/checkpoint").status == 200

    def contents(self):
        """Of the data directory: name -> whether a note says until when."""
        names = {path.name for path in (self.s.directory / "data").glob("LOOKUP-*")}
        return {name: f"{name}.until" in names for name in names if not name.endswith(".until")}

    def name_of(self, towns):
        [name] = [name for name in self.contents() if (self.s.directory / "data" / name).read_text() == towns]
        return name

    def trim(self):
        """Until the log has nothing of what it has now."""
        folder = self.s.directory / "data/log"
        segments = lambda: {path.name for path in folder.glob("*.log")}
        first = segments()

        def trimmed():
            self.send()
            if self.sent % 10 == 0:
                self.checkpoint()
            return not first & segments()
        until("the log is trimmed", trimmed)
        return first


@contextlib.contextmanager
def made():
    s = Server(CONFIG)
    try:
        life = Life(s)
        life.start_with(A)
        yield life
    except BaseException:
        sys.stderr.write(s.stderr()[-4000:])
        raise
    finally:
        s.close()


def test_a_content_goes_with_the_last_record_that_needs_it():
    with made() as life:
        s = life.s
        for _ in range(5):
            life.send()
        old = life.name_of(A)
        assert life.contents() == {old: False}
        s.kill()
        life.start_with(B)
        new = life.name_of(B)
        assert life.contents() == {old: True, new: False}
        for _ in range(5):
            life.send()
        # A start from zero reads what the old content decided.
        s.kill()
        shutil.rmtree(s.directory / "data/checkpoint")
        for path in (s.directory / "data").glob("results.db*"):
            path.unlink()
        s.start()
        assert life.contents() == {old: True, new: False}
        rows = {row["window_start"]: row["key"]["town"] for row in s.rows("r", state="all")}
        assert list(rows.values()).count("Bonn") == 5, rows
        s.kill()
        s.start()
        assert life.contents() == {old: True, new: False}, "the log still begins under it"
        life.trim()
        assert s.stop() == 0
        assert life.contents() == {old: True, new: False}, "a start removes it"
        s.start()
        assert life.contents() == {new: False} and len(s.reported("lookup_dropped")) == 1
        life.send()
        s.kill()
        s.start()
        assert life.contents() == {new: False}


def test_a_content_that_is_used_again_stays():
    with made() as life:
        s = life.s
        life.send()
        old = life.name_of(A)
        s.kill()
        life.start_with(B)
        new = life.name_of(B)
        life.send()
        assert s.stop() == 0
        life.start_with(A)
        assert life.contents() == {old: False, new: True}, "what was noted of it is gone"
        life.send()
        s.kill()
        life.start_with(B)
        assert life.contents() == {old: True, new: False}
        life.trim()
        assert s.stop() == 0
        life.start_with(A)
        assert life.contents()[old] is False and life.contents()[new] is True
        life.send()
        assert {row["key"]["town"] for row in s.rows("r", state="open")} == {"Ulm"}


if __name__ == "__main__":
    run(globals())
