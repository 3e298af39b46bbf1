# SPDX-License-Identifier: Apache-2.0
"""
What the kernel says of a server: CPU time of it and its children, and their memory.
"""
import os
import pathlib
import time

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid):
    """The process and all below it: [(pid, seconds of its children that have ended)]."""
    parents, ended = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        parents[int(entry)] = int(fields[1])
        ended[int(entry)] = (int(fields[13]) + int(fields[14])) / TICKS
    members = {pid}
    grown = True
    while grown:
        more = {p for p, parent in parents.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return [(p, ended[p]) for p in members if p in ended]


def cpu_s(pid):
    """
    User and system time. Of the living by their CPU clocks, which count nanoseconds where /proc/PID/stat counts
    ticks of 10 ms; of children that have ended by the parent's stat.
    """
    total = 0.0
    for member, ended in family(pid):
        total += ended
        try:
            total += time.clock_gettime(~member << 3 | 2)  # clock_getcpuclockid(3), which Python lacks
        except OSError:
            pass  # ended meanwhile: its parent's stat has it next time
    return total


def settled_cpu_s(pid, give_up_s=10.0):
    """The same, once background work (merges, checkpoints, closing windows) has come to rest."""
    deadline = time.monotonic() + give_up_s
    before = cpu_s(pid)
    while True:
        time.sleep(0.25)
        now = cpu_s(pid)
        if now - before < 0.005 or time.monotonic() > deadline:
            return now
        before = now


def memory_bytes(pid):
    """Proportional set size: pages that processes share count once."""
    total = 0
    for member, _ in family(pid):
        try:
            for line in pathlib.Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            pass
    return total
