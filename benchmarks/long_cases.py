"""
The cases of bench_long.py. An importable module, so that children of all kinds find its functions by name.

Every case runs batches of no-ops with `parallel=True`, a few looks among them: tasks that look at what their worker and
its keeper hold. The process that runs the batches looks at itself after each. Loggers can be counted only by who has
them; those of a keeper are the ones that its workers began with.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from harness import Figures

from processes import Process, ProcessExecutionReport, Task

WORKERS = 2

#: Batches that run before it is looked what they leave: what is made once only is there then, and the allocator, which
#: rounds up and keeps, has found its size.
WARM_BATCHES = 8

#: Looks in a batch. The first ones see what is made once only.
LOOKS = 12
WARM_LOOKS = 4


class Held(NamedTuple):
    """What a process holds at one moment."""

    #: Anonymous memory, in bytes.
    memory: float
    descriptors: float
    threads: float
    #: Names in logging's registry and handlers that logging knows; 0 where they cannot be seen.
    loggers: float


def held_by(pid: int, loggers: int = 0) -> Held:
    """Of a process. Source: RssAnon in /proc/PID/status, in KiB; /proc/PID/fd and task, proc(5)."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        (memory,) = re.findall(r"^RssAnon:\s+(\d+) kB$", status.read(), re.MULTILINE)
    return Held(
        int(memory) * 1024, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), float(loggers)
    )


def held_here() -> Held:
    """Of this process, after a collection."""
    gc.collect()
    handlers = logging._handlerList  # type: ignore[attr-defined]  # there is no other way to see them
    return held_by(os.getpid(), len(logging.root.manager.loggerDict) + len(handlers))


def noop(number: int) -> int:
    """Nothing."""
    return number


def look() -> dict[str, tuple[int, Held]]:
    """What this worker and its keeper hold, with their process ids."""
    return {"worker": (os.getpid(), held_here()), "keeper": (os.getppid(), held_by(os.getppid()))}


def tasks_of(batch: int, count: int) -> Iterator[Task]:
    """No-ops, with looks evenly among them and at both ends; they run about in this order."""
    for number in range(count):
        if number % (count // LOOKS) == 0:
            yield Task(f"look-{batch}-{number}", look)
        yield Task(f"job-{batch}-{number}", noop, args=(number,))
    yield Task(f"look-{batch}-end", look)


def batches_of_their_own(batches: int, count: int) -> Figures:
    """Batches of no-ops, a Process for each."""
    return _measure(Process(list(tasks_of(batch, count))) for batch in range(WARM_BATCHES + batches))


def batches_of_one_process(batches: int, count: int) -> Figures:
    """Batches of no-ops, all of them on one Process."""
    process = Process(list(tasks_of(0, count)))
    return _measure(process for _ in range(WARM_BATCHES + batches))


def _measure(processes: Iterable[Process]) -> Figures:
    """How much more each process holds in the end than before, the program by batch; and how long it all took."""
    started = time.perf_counter()
    parent: list[Held] = []
    growths: dict[str, list[Held]] = {"worker": [], "keeper": []}
    jobs = 0
    for process in processes:
        with process:
            report = process.run(True, WORKERS)
        assert len(report.successes) == len(report.entries), "tasks are missing"
        jobs += len(report.entries)
        for role, grown in growths.items():
            grown.extend(_growths(report, role))
        del process, report
        parent.append(held_here())
    settled = parent[WARM_BATCHES:]
    middle = len(settled) // 2
    memory = [max(held.memory for held in half) for half in (settled[:middle], settled[middle:])]
    counts = [last - first for first, last in zip(settled[0][1:], settled[-1][1:], strict=True)]
    return {
        "seconds": time.perf_counter() - started,
        "tasks": float(jobs),
        "parent memory": (memory[1] - memory[0]) / middle,
        **dict(zip(("parent descriptors", "parent threads", "parent loggers"), counts, strict=True)),
        **{
            f"{role} {name}": (statistics.median if name == "memory" else max)(found)
            for role, grown in growths.items()
            for name, found in zip(Held._fields, zip(*grown, strict=True), strict=True)
        },
    }


def _growths(report: ProcessExecutionReport, role: str) -> Iterator[Held]:
    """For each process of that role, what it holds at its last look in the run less what it held at an early one."""
    looks = [entry.result[role] for name, entry in report.entries.items() if name.startswith("look-")]
    for pid in {pid for pid, _ in looks[:WARM_LOOKS]}:
        early = next(held for other, held in reversed(looks[:WARM_LOOKS]) if other == pid)
        last = next(held for other, held in reversed(looks) if other == pid)
        yield Held(*(after - before for before, after in zip(early, last, strict=True)))
