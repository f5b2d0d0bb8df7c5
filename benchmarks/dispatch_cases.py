"""
The cases of bench_dispatch.py, some of which bench_peers.py has too. An importable module, so that our children and
those of other pools find its functions by name.

Every case runs in a process of its own, which here is the dispatching one, checks all results and returns seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dispatch_work import count_on, noop
from harness import Figures, peak_bytes
from peer_pools import PEERS, WORKERS

from processes import Process, Task, TaskDependency, TaskStatus

if TYPE_CHECKING:
    from processes import ProcessExecutionReport

#: Every task has a time-out, as it would in a job that must end; none of them comes near it.
TASK_TIMEOUT_S = 60.0


# ---- end to end, ours and the others' --------------------------------------------------------------------------------


def run_ours(work: Callable[[int], int], count: int) -> Figures:
    """
    Build `count` tasks with a time-out, run them, read every entry's status, result and usage.

    Cold: the workers start within the clock. "warm" is what it takes from the first task on.
    """
    return _run_ours(
        lambda: [Task(f"task-{number}", work, args=(number,), timeout=TASK_TIMEOUT_S) for number in range(count)],
        count,
    )


def map_ours(work: Callable[[int], int], count: int) -> Figures:
    """The same with the tasks made by `Task.map`."""
    return _run_ours(lambda: Task.map("task", work, range(count), timeout=TASK_TIMEOUT_S), count)


def _run_ours(build: Callable[[], list[Task]], count: int) -> Figures:
    peak, cpu = peak_bytes(), time.process_time()
    started = time.perf_counter()
    report = Process(build()).run(parallel="processes", max_workers=WORKERS)
    results = read_results(report)
    seconds = time.perf_counter() - started
    ended = time.time()
    cpu = time.process_time() - cpu
    memory = peak_bytes() - peak
    check_results(results, count)
    began = min(entry.started_at.timestamp() for entry in report.entries.values() if entry.started_at)
    return {"seconds": seconds, "warm": ended - began, "parent cpu": cpu / count, "parent memory": memory / count}


def run_peer(system: str, work: Callable[[int], int], count: int) -> Figures:
    """The same on a warm pool of others; but for pebble they have no time-outs, and none of them tells usage."""
    with PEERS[system]() as run:
        cpu = time.process_time()
        started = time.perf_counter()
        results = run(work, range(count))
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
    check_results(results, count)
    return {"seconds": seconds, "parent cpu": cpu / count}


def read_results(report: ProcessExecutionReport) -> list[Any]:
    """All results; the status and usage of every entry are read on the way."""
    results = []
    for entry in report.entries.values():
        assert entry.status is TaskStatus.SUCCESS, f"{entry.name} ended {entry.status.value}: {entry.error}"
        assert entry.usage is not None, f"{entry.name} has no usage"
        assert entry.usage.cpu_user is not None, f"{entry.name} has no CPU time"
        results.append(entry.result)
    return results


def check_results(results: list[int], count: int, first: int = 0) -> None:
    """All numbers, each once."""
    assert sorted(results) == list(range(first, first + count)), "results are missing, doubled or wrong"


# ---- cost by size ----------------------------------------------------------------------------------------------------


def build(count: int, edges: int) -> Figures:
    """Make `count` tasks, each waiting for up to `edges` before it, and a Process of them."""
    started = time.perf_counter()
    tasks = [
        Task(
            f"task-{number}",
            noop,
            args=(number,),
            timeout=TASK_TIMEOUT_S,
            dependencies=[TaskDependency(f"task-{wanted}") for wanted in range(max(0, number - edges), number)],
        )
        for number in range(count)
    ]
    process = Process(tasks)
    seconds = time.perf_counter() - started
    assert len(process.tasks) == count, "tasks are missing"
    return {"seconds": seconds}


def run_noops(count: int) -> Figures:
    """As many no-ops, end to end."""
    return run_ours(noop, count)


def chain(count: int) -> Figures:
    """Each task takes the result of the one before; from building them to the last entry read."""
    started = time.perf_counter()
    tasks = [Task("task-0", count_on, timeout=TASK_TIMEOUT_S)]
    tasks += [
        Task(
            f"task-{number}",
            count_on,
            timeout=TASK_TIMEOUT_S,
            dependencies=[TaskDependency(f"task-{number - 1}", use_result_as_additional_args=True)],
        )
        for number in range(1, count)
    ]
    results = read_results(Process(tasks).run(parallel="processes", max_workers=WORKERS))
    seconds = time.perf_counter() - started
    check_results(results, count, first=1)
    return {"seconds": seconds}
