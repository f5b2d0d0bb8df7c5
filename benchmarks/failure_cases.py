"""
The cases of bench_failure.py. An importable module, so that children of all kinds find its functions by name.

Every case makes `count` calls of which all fail, two at a time, and looks at each failure. Ours has the exception, its
traceback as text and as data, and the locals of its frames; concurrent.futures and multiprocessing have the exception
and its traceback as text.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NoReturn

from harness import Figures

from processes import Process, ProcessPool, Task

WORKERS = 2


def parse(row: int) -> NoReturn:
    """A user's function with locals of the usual kinds, three frames deep."""
    record = {"row": row, "fields": ["a", "b", "c"] * 5, "source": "flights.csv"}
    _check(record, [row] * 20)


def _check(record: dict[str, object], history: list[int]) -> NoReturn:
    limit, name = 3.5, "price"
    assert history
    _convert(record, name, limit)


def _convert(record: dict[str, object], name: str, limit: float) -> NoReturn:
    raise ValueError(f"no {name} in row {record['row']}, limit {limit}")


def run_ours(count: int) -> Figures:
    """Tasks, to the last look at their failures."""
    tasks = [Task(f"t{row}", parse, args=(row,)) for row in range(count)]
    started = time.perf_counter()
    report = Process(tasks).run(ProcessPool(WORKERS))
    for entry in report.errored.values():
        assert entry.error is not None
        assert entry.error.traced_vars["name"] == "'price'"
        assert len(entry.error.chain[0].frames) == 3
    seconds = time.perf_counter() - started
    assert len(report.errored) == count
    return {"seconds": seconds}


def run_executor(count: int) -> Figures:
    """`ProcessPoolExecutor.submit`, warm."""
    with ProcessPoolExecutor(WORKERS) as executor:
        _look(executor.submit(parse, 0).exception())
        started = time.perf_counter()
        futures = [executor.submit(parse, row) for row in range(count)]
        for future in futures:
            _look(future.exception())
        return {"seconds": time.perf_counter() - started}


def run_pool(count: int) -> Figures:
    """`multiprocessing.Pool.apply_async`, warm."""
    with multiprocessing.Pool(WORKERS) as pool:
        _look(_raised(pool.apply_async(parse, (0,))))
        started = time.perf_counter()
        results = [pool.apply_async(parse, (row,)) for row in range(count)]
        for result in results:
            _look(_raised(result))
        return {"seconds": time.perf_counter() - started}


def _raised(result: multiprocessing.pool.AsyncResult[object]) -> BaseException | None:
    try:
        result.get()
    except ValueError as error:
        return error
    return None


def _look(error: BaseException | None) -> None:
    assert isinstance(error, ValueError)
    assert "_convert" in str(error.__cause__)
