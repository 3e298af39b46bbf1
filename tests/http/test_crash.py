# SPDX-License-Identifier: Apache-2.0
"""
Crash: a few rounds of tests/crash/crash.py, which says what they prove: the real server is killed at all kinds of
moments while clients retry, and nothing is lost or counted twice. Many rounds: script/dev crash.
"""
import pathlib
import sys

from harness import run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "crash"))
from crash import crash  # noqa: E402


def rounds(count, seed, *more):
    ends, _, sums = crash([str(count), str(seed), "--check-every", "4", "--checkpoint", "100ms", *more])
    assert sum(ends.values()) == count and sums["retries"] > 0 and sums["checks"] > count // 4
    assert sums["lost"] == sums["double"] == 0


def test_killed_again_and_again():
    rounds(10, 1, "--late", "no")


def test_killed_with_late_events():
    rounds(8, 2, "--late", "yes")


if __name__ == "__main__":
    run(globals())
