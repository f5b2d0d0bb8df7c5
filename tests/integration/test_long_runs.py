"""What many tasks and many batches leave in the program, its keeper and its workers: counted, never timed."""

import gc
import logging
import os
import threading
from typing import NamedTuple

import pytest

from processes import Process, Task
from processes.backends.base import Backend
from processes.child import Child
from processes.record import TaskRecord
from processes.runner import Plan
from processes.scheduler import Scheduler
from support.pools import every_method, pool, run

#: Of no-ops. Each leaves less than an object, or these would show.
MANY = 3_000

#: Objects that come and go: caches that fill up, the looks themselves.
OBJECTS_MAX = 100


class Held(NamedTuple):
    """What a process holds at one moment."""

    descriptors: int
    threads: int
    loggers: int
    handlers: int
    objects: int


def held_here() -> Held:
    """Of this process."""
    gc.collect()
    return Held(
        len(os.listdir("/proc/self/fd")),
        threading.active_count(),
        len(logging.root.manager.loggerDict),
        len(logging._handlerList),  # type: ignore[attr-defined]  # all there are
        len(gc.get_objects()),
    )


def look() -> tuple[int, Held, tuple[int, int]]:
    """A worker's side: its id, what it holds, and its keeper's descriptors and threads."""
    keeper = os.getppid()
    return os.getpid(), held_here(), (len(os.listdir(f"/proc/{keeper}/fd")), len(os.listdir(f"/proc/{keeper}/task")))


@every_method
def test_many_tasks_leave_nothing_in_worker_and_keeper(method: str) -> None:
    """One worker makes thousands of attempts, and holds in the end what it held after the first hundred."""
    tasks = [Task(f"t{n}", abs, args=(n,)) for n in range(MANY)]
    tasks.insert(100, Task("early", look))
    report = run([*tasks, Task("late", look)], pool(method, 1))
    assert len(report.successes) == MANY + 2
    early_pid, early, keeper_early = report.entries["early"].result
    late_pid, late, keeper_late = report.entries["late"].result
    assert late_pid == early_pid
    assert late[:-1] == early[:-1]
    assert late.objects - early.objects < OBJECTS_MAX
    assert keeper_late == keeper_early


def test_batches_on_one_process_leave_nothing(mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ten times, a Process leaves in the program what it left after three; each report goes with its last owner."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's own keep every record.
    process = Process([Task(f"t{n}", abs, args=(n,)) for n in range(100)])
    held = []
    for _ in range(10):
        with process:
            assert len(process.run(mode, 2).successes) == 100
        held.append(held_here())
    assert held[-1][:-1] == held[2][:-1]
    assert held[-1].objects - held[2].objects < OBJECTS_MAX


def instances_of(*kinds: type) -> int:
    """How many there are in this process."""
    gc.collect()
    return sum(issubclass(type(each), kinds) for each in gc.get_objects())


@pytest.mark.parametrize("parallel", [None, "threads", "processes"])
def test_report_keeps_nothing_of_the_run_but_its_records(parallel: str | None) -> None:
    """Neither what was made for each task before the run, nor whatever ran them: a report may live long."""
    made_for_a_run = Backend, Child, Plan, Scheduler
    before, records = instances_of(*made_for_a_run), instances_of(TaskRecord)
    report = Process([Task(f"task-{number}", divmod, args=(number, 1)) for number in range(5)]).run(parallel)
    assert instances_of(*made_for_a_run) == before
    assert instances_of(TaskRecord) == records + 5
    assert [entry.result for entry in report.entries.values()] == [(number, 0) for number in range(5)]
