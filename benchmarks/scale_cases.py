"""
The cases of bench_scale.py, on what both this library and 7.0.4 have, so that the same lines measure either:

    python scale_cases.py CASE [NUMBER ...]

calls one case with the `processes` that this interpreter has, and prints its figures as JSON. Every case checks that
its tasks ran, and returns seconds: CPU seconds where all of the work is this process's own, else as the clock has it.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from processes import Process, Task, TaskDependency

WORKERS = 2

#: Batches that run before the clock starts: what is made once only is there then.
WARM_BATCHES = 2

#: What a shell mostly allows; 7.0.4 had a descriptor for each task.
DESCRIPTORS_MAX = 1024

#: In seconds: a case of 7.0.4 that takes longer hangs.
OTHER_TIMEOUT_S = 90.0


def noop(number: int) -> int:
    """Nothing."""
    return number


def count_on(previous: int = 0) -> int:
    """One more than the task before."""
    return previous + 1


def make(count: int) -> dict[str, float]:
    """Make Tasks, nothing else. In 7.0.4 each swept the cache of every logger that there was."""
    started = time.process_time()
    tasks = [Task(f"task-{number}", noop, args=(number,)) for number in range(count)]
    seconds = time.process_time() - started
    assert len({task.name for task in tasks}) == count, "tasks are missing"
    return {"seconds": seconds}


def build(count: int) -> dict[str, float]:
    """Make Tasks and a Process of them, each waiting for the one before."""
    started = time.process_time()
    tasks = _chain(count)
    process = Process(tasks)
    seconds = time.process_time() - started
    assert len(process.tasks) == count, "tasks are missing"
    return {"seconds": seconds}


def add(count: int) -> dict[str, float]:
    """Add Tasks, made before, to a Process one by one. In 7.0.4 each checked the whole graph again."""
    tasks = _chain(count)
    process = Process([])
    started = time.process_time()
    for task in tasks:
        process.add_task(task)
    seconds = time.process_time() - started
    assert len(process.tasks) == count, "tasks are missing"
    return {"seconds": seconds}


def chain(count: int) -> dict[str, float]:
    """Run a chain, each task taking the result of the one before; start of the workers included."""
    process = Process(_chain(count))
    started = time.perf_counter()
    report = process.run(True, WORKERS)
    seconds = time.perf_counter() - started
    assert report.entries[f"task-{count - 1}"].result == count, "the chain was not passed on"
    return {"seconds": seconds}


def independent(count: int) -> dict[str, float]:
    """Run tasks that wait for nothing; start of the workers included."""
    process = Process([Task(f"task-{number}", noop, args=(number,)) for number in range(count)])
    started = time.perf_counter()
    report = process.run(True, WORKERS)
    seconds = time.perf_counter() - started
    assert [entry.result for entry in report.entries.values()] == list(range(count)), "results are wrong"
    return {"seconds": seconds}


def share_logfile(count: int) -> dict[str, float]:
    """Make and run tasks that log to one file, with as many descriptors as a shell allows; returns how many it took."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        started = time.process_time()
        tasks = [Task(f"task-{number}", noop, path, args=(number,)) for number in range(count - 1)]
        tasks.append(Task("look", open_on, path, args=(path,)))
        with Process(tasks) as process:
            report = process.run(False)
        seconds = time.process_time() - started
        with open(path, encoding="utf-8") as log:
            assert sum(1 for _ in log) == 2 * count, "lines are missing"
    return {"seconds": seconds, "descriptors": report.entries["look"].result}


def open_on(path: str) -> int:
    """How many descriptors of this process are open on a file. Source: /proc/self/fd, proc(5)."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == path
        except FileNotFoundError:  # That of the listing itself.
            continue
    return found


def batches_here(batches: int, count: int) -> dict[str, float]:
    """Batches of tasks, one after another, in this thread."""
    return _batches(batches, count, parallel=False)


def batches_parallel(batches: int, count: int) -> dict[str, float]:
    """Batches of tasks, one after another, each with `parallel=True`."""
    return _batches(batches, count, parallel=True)


def _batches(batches: int, count: int, *, parallel: bool) -> dict[str, float]:
    """What a batch takes at the beginning and at the end, and what the second half of them leaves behind, each."""
    seconds: list[float] = []
    # Not from the beginning: the allocator takes some dozen batches to find its size.
    half = batches // 2
    before = _held()
    for batch in range(-WARM_BATCHES, batches):
        if batch == half:
            before = _held()
        started = time.perf_counter()
        with Process([Task(f"job-{batch}-{number}", noop, args=(number,)) for number in range(count)]) as process:
            report = process.run(parallel, WORKERS)
        if batch >= 0:
            seconds.append(time.perf_counter() - started)
        assert len(report.successes) == count, "tasks are missing"
        del process, report
    loggers, handlers, memory = ((now - then) / (batches - half) for now, then in zip(_held(), before, strict=True))
    part = max(1, batches // 5)
    return {
        "seconds": sum(seconds),
        "first": statistics.median(seconds[:part]),
        "last": statistics.median(seconds[-part:]),
        "loggers": loggers,
        "handlers": handlers,
        "memory": memory,
    }


def _held() -> tuple[int, int, int]:
    """Names in logging's registry, handlers that logging knows, resident memory in bytes."""
    gc.collect()
    handlers = logging._handlerList  # type: ignore[attr-defined]  # there is no other way to see them
    with open("/proc/self/statm", encoding="ascii") as statm:  # Pages; proc(5).
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(logging.root.manager.loggerDict), len(handlers), resident


def _chain(count: int) -> list[Task]:
    return [
        Task(f"task-{number}", count_on, dependencies=[TaskDependency(f"task-{number - 1}", True)] if number else [])
        for number in range(count)
    ]


# ---- the same on another interpreter ---------------------------------------------------------------------------------


def elsewhere(python: str, case: str, *numbers: int) -> dict[str, float]:
    """Call a case on the `processes` that another interpreter has."""
    found = _call(python, [os.path.abspath(__file__), case, *map(str, numbers)])
    figures: dict[str, float] = json.loads(found)
    return figures


def version_of(python: str) -> str:
    """Version of the `processes` that another interpreter has."""
    return _call(python, ["-c", "import processes; print(processes.__version__)"]).strip()


def _call(python: str, arguments: list[str]) -> str:
    # Without the caller's path: it would lead to the library that this process measures.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=OTHER_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{python} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


CASES: dict[str, Callable[..., dict[str, float]]] = {
    case.__name__: case
    for case in (make, build, add, chain, independent, share_logfile, batches_here, batches_parallel)
}


if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*map(int, sys.argv[2:]))))
