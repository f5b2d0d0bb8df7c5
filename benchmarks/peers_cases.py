"""
The cases of bench_peers.py that are about many small tasks: graphs, what an option adds to a task, fairness.

Every case runs in a process of its own, which here is the dispatching one, and checks all results.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from pathlib import Path

from dispatch_cases import TASK_TIMEOUT_S, check_results, read_results
from dispatch_work import busy_until, count_on, noop
from harness import Figures, peak_bytes
from peer_pools import PEERS, WORKERS, dask_client

from processes import Process, ProcessPool, Task, TaskDependency

# ---- graphs ----------------------------------------------------------------------------------------------------------

#: Tasks that a layer of diamonds has.
LAYER = 100

GRAPHS = ("independent", "chain", "diamonds", "fan-in")


def _tasks(graph: str, count: int) -> list[Task]:
    """Tasks that find how long the longest path to them is, each from the results of those that it waits for."""
    names = [f"task-{number}" for number in range(count)]
    sources: list[list[int]]
    if graph == "independent":
        sources = [[] for _ in names]
    elif graph == "chain":
        sources = [[number - 1] if number else [] for number in range(count)]
    elif graph == "diamonds":
        # In each layer a task takes the one below it and its neighbour.
        sources = [
            [number - LAYER, number - LAYER - number % LAYER + (number + 1) % LAYER] if number >= LAYER else []
            for number in range(count)
        ]
    else:
        sources = [[] for _ in range(count - 1)] + [list(range(count - 1))]
    return [
        Task(
            name,
            longest,
            timeout=TASK_TIMEOUT_S,
            dependencies=[TaskDependency(names[source], use_result_as_additional_args=True) for source in taken],
        )
        for name, taken in zip(names, sources, strict=True)
    ]


def longest(*lengths: int) -> int:
    """How many tasks the longest path to this one has, itself included."""
    return max(lengths, default=0) + 1


def graph(shape: str, count: int) -> Figures:
    """A graph of so many tasks, end to end; and what the parent takes beside the interpreter, a task."""
    peak = peak_bytes()
    cpu = time.process_time()
    started = time.perf_counter()
    results = read_results(Process(_tasks(shape, count)).run(parallel="processes", max_workers=WORKERS))
    seconds = time.perf_counter() - started
    cpu = time.process_time() - cpu
    depths = {"independent": 1, "chain": count, "diamonds": -(-count // LAYER), "fan-in": 2}
    assert max(results) == depths[shape], f"the longest path is {max(results)}"
    return {"seconds": seconds, "parent cpu": cpu, "memory": (peak_bytes() - peak) / count}


# ---- a chain ---------------------------------------------------------------------------------------------------------


def chain_by_peer(system: str, count: int) -> Figures:
    """Each call is given the result of the one before, by the caller."""
    value = 0
    with PEERS[system]() as run:
        started = time.perf_counter()
        for _ in range(count):
            (value,) = run(count_on, [value])
        seconds = time.perf_counter() - started
    assert value == count, "the chain was not passed on"
    return {"seconds": seconds}


def chain_by_dask(count: int) -> Figures:
    """Each call takes the future of the one before."""
    with dask_client() as client:
        started = time.perf_counter()
        future = client.submit(count_on, 0, pure=False)
        for _ in range(count - 1):
            future = client.submit(count_on, future, pure=False)
        value = future.result()
        seconds = time.perf_counter() - started
    assert value == count, "the chain was not passed on"
    return {"seconds": seconds}


# ---- what an option adds ---------------------------------------------------------------------------------------------

PLAIN, TIMEOUT, MEMORY, CAPTURE, LOGFILE = (
    "nothing",
    "a time-out",
    "a memory limit",
    "log capture, nothing logged",
    "a logfile, two lines a task",
)
OPTIONS = (PLAIN, TIMEOUT, MEMORY, CAPTURE, LOGFILE)


def option(name: str, count: int) -> Figures:
    """
    No-ops with nothing but that option.

    Records of tasks are captured where somebody listens: the application, or a handler of the task's own.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        if name == CAPTURE:
            logging.basicConfig(filename=path)
        options: dict[str, dict[str, object]] = {
            TIMEOUT: {"timeout": TASK_TIMEOUT_S},
            MEMORY: {"memory_limit": "1GiB"},
            LOGFILE: {"log_path": path},
        }
        cpu = time.process_time()
        started = time.perf_counter()
        with Process(Task.map("task", noop, range(count), **options.get(name, {}))) as process:
            results = read_results(process.run(parallel="processes", max_workers=WORKERS))
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
        logging.shutdown()
        lines = Path(path).read_text(encoding="utf-8").count("\n") if os.path.exists(path) else 0
    check_results(results, count)
    assert lines == (2 * count if name == LOGFILE else 0), f"{lines} lines were logged"
    return {"seconds": seconds, "parent cpu": cpu}


# ---- fairness --------------------------------------------------------------------------------------------------------

#: Tasks between two that are compared: so far apart in the list that only being held back makes the earlier one end
#: later.
APART = 100


def fairness(system: str | None, count: int, long_s: float, short_s: float) -> Figures:
    """
    One long task, then many short ones: how long it all takes, of what two busy workers would need.

    And how long a short task ended after the one APART places behind it: as long as the long one where it waited for
    it. `system` is a peer's, None for this library.
    """
    seconds = [long_s, *[short_s] * count]
    if system is None:
        started = time.perf_counter()
        report = Process(Task.map("task", busy_until, seconds, timeout=TASK_TIMEOUT_S)).run(ProcessPool(WORKERS))
        results = read_results(report)
        took = time.perf_counter() - started
    else:
        with PEERS[system]() as run:
            started = time.perf_counter()
            results = run(busy_until, seconds)
            took = time.perf_counter() - started
    ends = results[1:]
    assert len(ends) == count, "results are missing"
    held = max(earlier - later for earlier, later in zip(ends, ends[APART:], strict=False))
    return {"seconds": took, "of ideal": took / max(long_s, sum(seconds) / WORKERS), "held back": max(held, 0.0)}
