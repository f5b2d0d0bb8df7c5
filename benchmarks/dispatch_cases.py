"""
The cases of bench_dispatch.py. An importable module, so that our children and those of the standard library's pools
find its functions by name.

Every case runs in a process of its own, which here is the dispatching one, checks all results and returns seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch_work import TOUCH_S, count_on, noop, occupy
from harness import Figures

from processes import Process, Task, TaskDependency, TaskStatus

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from processes import ProcessExecutionReport

    Array = NDArray[np.float64]
    #: When the producer handed it over (monotonic), the producer's process id, the array.
    Parcel = tuple[float, int, Array]

WORKERS = 2

#: Every task has a time-out, as it would in a job that must end; none of them comes near it.
TASK_TIMEOUT_S = 60.0

ARRAY_BYTES = 64 * 2**20
_FLOAT_BYTES = 8
_PAGE_FLOATS = os.sysconf("SC_PAGE_SIZE") // _FLOAT_BYTES

#: Hand-overs of the array in one sample.
ROUNDS = 3


# ---- end to end, ours and the standard library's ---------------------------------------------------------------------


def run_ours(work: Callable[[int], int], count: int) -> Figures:
    """
    Build `count` tasks with a time-out, run them, read every entry's status, result and usage.

    Cold: the workers start within the clock.
    """
    started = time.perf_counter()
    tasks = [Task(f"task-{number}", work, args=(number,), timeout=TASK_TIMEOUT_S) for number in range(count)]
    report = Process(tasks).run(parallel="processes", max_workers=WORKERS)
    results = _read(report)
    seconds = time.perf_counter() - started
    _check(results, count)
    return {"seconds": seconds}


def run_executor(work: Callable[[int], int], count: int) -> Figures:
    """The same by `submit` on a warm ProcessPoolExecutor; without time-outs or usage, which it does not have."""
    with ProcessPoolExecutor(WORKERS) as pool:
        _touch(lambda: [future.result() for future in [pool.submit(occupy) for _ in range(WORKERS)]])
        started = time.perf_counter()
        futures = [pool.submit(work, number) for number in range(count)]
        results = [future.result() for future in futures]
        seconds = time.perf_counter() - started
    _check(results, count)
    return {"seconds": seconds}


def run_pool(work: Callable[[int], int], count: int) -> Figures:
    """The same by `apply_async` on a warm multiprocessing.Pool; without time-outs or usage, which it does not have."""
    with multiprocessing.Pool(WORKERS) as pool:
        _touch(lambda: [answer.get() for answer in [pool.apply_async(occupy) for _ in range(WORKERS)]])
        started = time.perf_counter()
        answers = [pool.apply_async(work, (number,)) for number in range(count)]
        results = [answer.get() for answer in answers]
        seconds = time.perf_counter() - started
        pool.close()
        pool.join()
    _check(results, count)
    return {"seconds": seconds}


def _touch(occupy_all: Callable[[], list[int]]) -> None:
    """Until every worker has run a task: it has started by then, and has imported this module."""
    seen: set[int] = set()
    while len(seen) < WORKERS:
        seen.update(occupy_all())


def _read(report: ProcessExecutionReport) -> list[int]:
    """All results; the status and usage of every entry are read on the way."""
    results = []
    for entry in report.entries.values():
        assert entry.status is TaskStatus.SUCCESS, f"{entry.name} ended {entry.status.value}: {entry.error}"
        assert entry.usage is not None, f"{entry.name} has no usage"
        assert entry.usage.cpu_user is not None, f"{entry.name} has no CPU time"
        results.append(entry.result)
    return results


def _check(results: list[int], count: int, first: int = 0) -> None:
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
    results = _read(Process(tasks).run(parallel="processes", max_workers=WORKERS))
    seconds = time.perf_counter() - started
    _check(results, count, first=1)
    return {"seconds": seconds}


# ---- the data path ---------------------------------------------------------------------------------------------------


def _array() -> Array:
    import numpy as np

    return np.arange(ARRAY_BYTES // _FLOAT_BYTES, dtype=np.float64)


def import_numpy() -> int:
    """Make this worker ready for arrays."""
    import numpy as np

    assert np.ones(1).sum() == 1
    return occupy()


def write_memfd() -> float:
    """Seconds that writing the array's bytes into a fresh memfd takes: what any way between processes pays at least."""
    rest = _array().data.cast("B")
    started = time.monotonic()
    descriptor = os.memfd_create("benchmark")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        return time.monotonic() - started
    finally:
        os.close(descriptor)


def produce() -> Parcel:
    """The array; what follows the clock is its way to the consumers, pickling included."""
    array = _array()
    return time.monotonic(), os.getpid(), array


def consume(parcel: Parcel) -> float | None:
    """
    Seconds on the way until every page was touched.

    Two consumers run at a time, one of them in the producer's own process: that one only keeps the place, so that the
    other goes to the other process, and returns None.
    """
    sent_at, producer, array = parcel
    if os.getpid() == producer:
        time.sleep(TOUCH_S)
        return None
    touched = float(array[::_PAGE_FLOATS].sum())
    seconds = time.monotonic() - sent_at
    length = ARRAY_BYTES // _FLOAT_BYTES
    assert array.size == length, "the array has another length"
    assert touched == sum(range(0, length, _PAGE_FLOATS)), "the array holds other numbers"
    return seconds


def hand_over_array() -> Figures:
    """ROUNDS times the array from child to child, each beside a write of as much into a fresh memfd."""
    before = _peak_bytes()
    report = Process(_array_tasks()).run(parallel="processes", max_workers=WORKERS)
    writes, hops = [], []
    failed = [f"{name}: {entry.error}" for name, entry in report.errored.items()]
    assert not failed, "; ".join(failed)
    for number in range(ROUNDS):
        ways = [report.entries[f"consume-{number}-{place}"].result for place in range(WORKERS)]
        crossed = [seconds for seconds in ways if seconds is not None]
        assert crossed, "no consumer ran in another process than the producer"
        hops.append(min(crossed))
        writes.append(report.entries[f"write-{number}"].result)
    growth = _peak_bytes() - before
    return {
        "write": statistics.median(writes),
        "hop": statistics.median(hops),
        "ratio": statistics.median(hop / write for hop, write in zip(hops, writes, strict=True)),
        "parent_growth": growth,
    }


def _array_tasks() -> list[Task]:
    tasks = [Task(f"numpy-{place}", import_numpy, timeout=TASK_TIMEOUT_S) for place in range(WORKERS)]
    before = [f"numpy-{place}" for place in range(WORKERS)]
    for number in range(ROUNDS):
        write, source = f"write-{number}", f"produce-{number}"
        consumers = [f"consume-{number}-{place}" for place in range(WORKERS)]
        parcel = TaskDependency(source, use_result_as_additional_args=True)
        waits = [TaskDependency(name) for name in before]
        tasks += [
            Task(write, write_memfd, timeout=TASK_TIMEOUT_S, dependencies=waits),
            Task(source, produce, timeout=TASK_TIMEOUT_S, dependencies=[TaskDependency(write)], keep_result=False),
            *(Task(name, consume, timeout=TASK_TIMEOUT_S, dependencies=[parcel]) for name in consumers),
        ]
        before = consumers
    return tasks


def _peak_bytes() -> int:
    """Highest resident memory of this process so far. Source: VmHWM in /proc/self/status, in KiB, proc(5)."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "this kernel does not tell VmHWM"
    return int(found[1]) * 1024
