"""
The data path of bench_peers.py and bench_dispatch.py: a value from one child to another, to many, and from the parent.

Every case runs in a process of its own, which here is the parent, checks what arrives and returns seconds or bytes.
"""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import psutil
from dispatch_cases import TASK_TIMEOUT_S
from dispatch_work import occupy
from harness import Figures, peak_bytes
from peer_pools import PEERS, WORKERS, Run, dask_client
from raw_cases import relay
from value_work import (
    ARRAY,
    FLOAT_BYTES,
    consume,
    consume_elsewhere,
    copy_memory,
    get_ready,
    grow,
    make,
    produce,
    read,
    write_memfd,
)

from processes import Process, ProcessExecutionReport, ProcessPool, Task, TaskDependency

#: Hand-overs in one sample.
ROUNDS = 3

#: How often memory is looked at, in seconds.
_TICK_S = 0.005


def _run(tasks: list[Task], pool: ProcessPool) -> ProcessExecutionReport:
    """All tasks, which must succeed."""
    report = Process(tasks).run(pool)
    failed = [f"{name}: {entry.error}" for name, entry in report.errored.items()]
    assert not failed, "; ".join(failed)
    return report


def _task(name: str, func: Callable[..., object], *args: object, after: list[str], keep: bool = True) -> Task:
    return Task(
        name,
        func,
        args=args,
        timeout=TASK_TIMEOUT_S,
        keep_result=keep,
        dependencies=[TaskDependency(other) for other in after],
    )


def _taking(name: str, func: Callable[..., object], *args: object, source: str, keep: bool = True) -> Task:
    """A task that takes the result of another."""
    taken = TaskDependency(source, use_result_as_additional_args=True)
    return Task(name, func, args=args, timeout=TASK_TIMEOUT_S, keep_result=keep, dependencies=[taken])


def _ready(kind: str) -> ProcessPool:
    """Its workers have imported what values of that kind need."""
    return ProcessPool(WORKERS, initializer=get_ready, initargs=((kind,),))


# ---- from child to child ---------------------------------------------------------------------------------------------


def hand_over(kind: str, size: int) -> Figures:
    """ROUNDS times a value from child to child, each beside a write of as much into a fresh memfd."""
    tasks: list[Task] = []
    before: list[str] = []
    for number in range(ROUNDS):
        copy, write, source = f"copy-{number}", f"write-{number}", f"produce-{number}"
        consumers = [f"consume-{number}-{place}" for place in range(WORKERS)]
        tasks += [
            _task(copy, copy_memory, size, after=before),
            _task(write, write_memfd, kind, size, after=[copy]),
            _task(source, produce, kind, size, after=[write], keep=False),
            *(_taking(name, consume_elsewhere, source=source) for name in consumers),
        ]
        before = consumers
    peak = peak_bytes()
    report = _run(tasks, _ready(kind))
    growth = peak_bytes() - peak
    copies, writes, floors, hops = [], [], [], []
    for number in range(ROUNDS):
        ways = [report.entries[f"consume-{number}-{place}"].result for place in range(WORKERS)]
        crossed = [seconds for seconds in ways if seconds is not None]
        assert crossed, "no consumer ran in another process than the producer"
        hops.append(min(crossed))
        written, mapped = report.entries[f"write-{number}"].result
        writes.append(written)
        floors.append(mapped)
        copies.append(report.entries[f"copy-{number}"].result)
    return {
        "seconds": statistics.median(hops),
        "write": statistics.median(writes),
        "copy": statistics.median(copies),
        "of floor": statistics.median(hop / floor for hop, floor in zip(hops, floors, strict=True)),
        "of write": statistics.median(hop / write for hop, write in zip(hops, writes, strict=True)),
        "of copy": statistics.median(hop / copy for hop, copy in zip(hops, copies, strict=True)),
        "parent growth": growth,
    }


def hand_to_many(kind: str, size: int, consumers: int) -> Figures:
    """ROUNDS times a value to several consumers, until the last of them has looked at it."""
    tasks: list[Task] = []
    before: list[str] = []
    for number in range(ROUNDS):
        source = f"produce-{number}"
        names = [f"consume-{number}-{place}" for place in range(consumers)]
        tasks.append(_task(source, produce, kind, size, after=before, keep=False))
        tasks += [_taking(name, consume, source=source) for name in names]
        before = names
    cpu = time.process_time()
    report = _run(tasks, _ready(kind))
    cpu = time.process_time() - cpu
    lasts = [
        max(report.entries[f"consume-{number}-{place}"].result for place in range(consumers))
        for number in range(ROUNDS)
    ]
    return {"seconds": statistics.median(lasts), "parent cpu": cpu}


def hand_over_by_peer(system: str, kind: str, size: int) -> Figures:
    """The result of one call is the argument of the next."""
    with PEERS[system]() as run:
        _make_ready(run, kind)
        peak = peak_bytes()
        seconds = [run(consume, run(partial(produce, kind), [size]))[0] for _ in range(ROUNDS)]
        growth = peak_bytes() - peak
    return {"seconds": statistics.median(seconds), "parent growth": growth}


def _make_ready(run: Run, kind: str) -> None:
    seen: set[int] = set()
    while len(seen) < WORKERS:
        seen.update(run(get_ready, [(kind,)] * WORKERS))


def hand_over_by_dask(kind: str, size: int) -> Figures:
    """From worker to worker, on the way that dask has for it."""
    with dask_client() as client:
        first, second = client.scheduler_info()["workers"]
        client.gather([client.submit(get_ready, (kind,), workers=[worker], pure=False) for worker in (first, second)])
        peak = peak_bytes()
        seconds = []
        for _ in range(ROUNDS):
            parcel = client.submit(produce, kind, size, workers=[first], pure=False)
            seconds.append(client.submit(consume, parcel, workers=[second], pure=False).result())
        growth = peak_bytes() - peak
    return {"seconds": statistics.median(seconds), "parent growth": growth}


def hand_over_by_pipe(kind: str, size: int) -> Figures:
    """By a parent that relays the pickle from pipe to pipe, without loading it."""
    peak = peak_bytes()
    seconds = relay(partial(produce, kind, size), consume, ROUNDS)
    return {"seconds": statistics.median(seconds), "parent growth": peak_bytes() - peak}


# ---- from the parent -------------------------------------------------------------------------------------------------


def give_same(size: int, count: int) -> Figures:
    """The same array for many tasks; from building them to the last result, start of the workers included."""
    array = make(ARRAY, size)
    peak = peak_bytes()
    started = time.perf_counter()
    report = _run(Task.map("read", read, [array] * count, timeout=TASK_TIMEOUT_S), ProcessPool(WORKERS))
    results = [entry.result for entry in report.entries.values()]
    seconds = time.perf_counter() - started
    assert results == [read(array)] * count, "results are wrong"
    return {"seconds": seconds, "parent growth": peak_bytes() - peak}


def give_same_by_peer(system: str, size: int, count: int) -> Figures:
    """The same by a warm pool, as an argument of each call."""
    array = make(ARRAY, size)
    with PEERS[system]() as run:
        _make_ready(run, ARRAY)
        peak = peak_bytes()
        started = time.perf_counter()
        results = run(read, [array] * count)
        seconds = time.perf_counter() - started
        growth = peak_bytes() - peak
    assert results == [read(array)] * count, "results are wrong"
    return {"seconds": seconds, "parent growth": growth}


def give_same_by_dask(size: int, count: int) -> Figures:
    """The same, scattered to the workers first, as dask asks for with large arguments."""
    array = make(ARRAY, size)
    with dask_client() as client:
        client.run(occupy)
        peak = peak_bytes()
        started = time.perf_counter()
        scattered = client.scatter(array, broadcast=True)
        results = client.gather([client.submit(read, scattered, pure=False) for _ in range(count)])
        seconds = time.perf_counter() - started
        growth = peak_bytes() - peak
    assert results == [read(array)] * count, "results are wrong"
    return {"seconds": seconds, "parent growth": growth}


# ---- memory ----------------------------------------------------------------------------------------------------------


class Memory:
    """The most memory that this process and its descendants take while it is entered: their own, and shared files."""

    def __enter__(self) -> Self:
        """Begin to look."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._before = self._now()
        self.most = 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_TICK_S):
            self.most = max(self.most, self._now() - self._before)

    @staticmethod
    def _now() -> int:
        """Source: Shmem of /proc/meminfo, which counts memfds, of the whole machine; RssAnon of /proc/PID/status."""
        found = re.search(r"^Shmem:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
        assert found, "this kernel does not tell Shmem"
        total = int(found[1])
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            except OSError:  # It has ended.
                continue
            found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
            total += int(found[1]) if found else 0
        return total * 1024


def hold(count: int, size: int) -> Figures:
    """A chain of arrays, each made of the one before, none of them kept."""
    tasks = [_task("step-0", grow, size, after=[], keep=False)]
    tasks += [
        _taking(f"step-{number}", grow, size, source=f"step-{number - 1}", keep=False) for number in range(1, count)
    ]
    tasks.append(_taking("read", read, source=f"step-{count - 1}"))
    with Memory() as memory:
        started = time.perf_counter()
        report = _run(tasks, _ready(ARRAY))
        seconds = time.perf_counter() - started
    pages = -(-(size // FLOAT_BYTES) // (os.sysconf("SC_PAGE_SIZE") // FLOAT_BYTES))
    assert report.entries["read"].result == pages * (count - 1), "the chain was not passed on"
    return {"seconds": seconds, "memory": memory.most}
