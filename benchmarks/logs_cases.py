"""
The cases of bench_logs.py. An importable module, so that children of all kinds find its functions by name.

Every case has WORKERS processes log `count` lines each into one file, reads the file back, and returns the seconds from
the first line to the last one written: the processes are there before the clock starts, and it stops when the file has
all. A line that is missing, doubled, torn or out of its process's order is an error.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from harness import Figures

from processes import Process, ProcessPool, Task

WORKERS = 2

FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

#: A fail-safe that no passing run meets, in seconds.
_WAIT_S = 60.0


def log_lines(worker: int, count: int) -> float:
    """Log `count` lines; returns when the first one was begun, CLOCK_MONOTONIC."""
    logger = logging.getLogger("etl.rows")
    started = time.monotonic()
    for number in range(count):
        logger.info("worker %d wrote line %d", worker, number)
    return started


# ---- ours ------------------------------------------------------------------------------------------------------------


def meet(folder: str, worker: int) -> None:
    """Wait until every worker is here: from then on they run at the same time."""
    with open(os.path.join(folder, f"here-{worker}"), "xb"):
        pass
    until = time.monotonic() + _WAIT_S
    while not all(os.path.exists(os.path.join(folder, f"here-{other}")) for other in range(WORKERS)):
        assert time.monotonic() < until, "the other worker did not come"
        time.sleep(0.001)


def meet_and_log(folder: str, worker: int, count: int) -> float:
    """The task: both at the same time."""
    meet(folder, worker)
    return log_lines(worker, count)


def ours(count: int) -> Figures:
    """Tasks in children that share a logfile."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        tasks = [Task(f"t{worker}", meet_and_log, path, (folder, worker, count)) for worker in range(WORKERS)]
        with Process(tasks) as process:
            report = process.run(ProcessPool(WORKERS, start_method="spawn"))
            ended = time.monotonic()  # What remains of a run is to stop the workers: some milliseconds.
        assert not report.warnings, report.warnings
        started = min(entry.result for entry in report.entries.values())
        check(path, count, others=2 * WORKERS)
    return {"seconds": ended - started}


def log_and_die(folder: str, worker: int, count: int) -> None:
    """The task, whose process is killed behind its last line."""
    meet_and_log(folder, worker, count)
    os.kill(os.getpid(), signal.SIGKILL)


def ours_killed(count: int) -> Figures:
    """As `ours`, and every worker is killed at the end; returns the lines that were lost: `check` takes none."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        tasks = [Task(f"t{worker}", log_and_die, path, (folder, worker, count)) for worker in range(WORKERS)]
        with Process(tasks) as process:
            report = process.run(ProcessPool(WORKERS, start_method="spawn"))
        assert len(report.errored) == WORKERS, "they were to be killed"
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if " - etl.rows - " in line]
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines)  # Without what is told of the failures.
        check(path, count)
    return {"lost": 0}


# ---- the standard library's ------------------------------------------------------------------------------------------


def by_queue_handler(count: int) -> Figures:
    """A QueueHandler in each process, over a `multiprocessing.Queue` to a QueueListener that has the file."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        records: Queue[logging.LogRecord] = context.Queue()
        file = file_handler(path)
        listener = logging.handlers.QueueListener(records, file)
        listener.start()
        started = _run_both(context, _to_queue, (records,), count)
        listener.stop()  # It writes what is queued.
        ended = time.monotonic()
        file.close()
        records.close()
        check(path, count)
    return {"seconds": ended - started}


def by_file_handlers(count: int) -> Figures:
    """A FileHandler in each process, on the same file, which is opened for appending."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.log")
        started = _run_both(context, _to_file, (path,), count)
        ended = time.monotonic()
        check(path, count)
    return {"seconds": ended - started}


def file_handler(path: str) -> logging.FileHandler:
    """With the format of our files."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    return handler


def _run_both(context: SpawnContext, setup: Callable[..., None], args: tuple[object, ...], count: int) -> float:
    """Have WORKERS processes log at the same time; returns when the first one began."""
    barrier, began = context.Barrier(WORKERS), context.SimpleQueue()
    children = [
        context.Process(target=_log_when_all_are_here, args=(barrier, began, setup, args, worker, count))
        for worker in range(WORKERS)
    ]
    for child in children:
        child.start()
    started = min(began.get() for _ in children)
    for child in children:
        child.join()
    codes = [child.exitcode for child in children]
    assert codes == [0] * WORKERS, f"they ended with {codes}"
    return float(started)


def _log_when_all_are_here(
    barrier: Barrier,
    began: multiprocessing.SimpleQueue[float],
    setup: Callable[..., None],
    args: tuple[object, ...],
    worker: int,
    count: int,
) -> None:
    setup(*args)
    barrier.wait(_WAIT_S)
    began.put(log_lines(worker, count))


def _to_queue(records: Queue[logging.LogRecord]) -> None:
    _log_to(logging.handlers.QueueHandler(records))


def _to_file(path: str) -> None:
    _log_to(file_handler(path))


def _log_to(handler: logging.Handler) -> None:
    # Not `basicConfig`: it would give a QueueHandler a formatter, and each line would be formatted twice.
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.INFO)


# ---- what they wrote -------------------------------------------------------------------------------------------------


def check(path: str, count: int, others: int = 0) -> None:
    """Every line once, whole, and in its process's order, beside `others` of the library's own."""
    next_of = dict.fromkeys(range(WORKERS), 0)
    with open(path, encoding="utf-8") as file:
        for line in file:
            head, _, number = line.rstrip("\n").rpartition(" wrote line ")
            if not head:
                others -= 1
                continue
            worker = int(head.rpartition(" ")[2])
            assert head.endswith(f" - etl.rows - INFO - worker {worker}"), f"torn: {line!r}"
            assert int(number) == next_of[worker], f"worker {worker}: line {number} where {next_of[worker]} was due"
            next_of[worker] += 1
    assert set(next_of.values()) == {count}, f"lines that were written: {next_of}"
    assert others == 0, f"{-others} lines too many"
