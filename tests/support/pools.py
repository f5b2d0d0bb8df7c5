"""Process pools for tests: one of each start method, and what their children left."""

import faulthandler
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import Process, ProcessExecutionReport, ProcessPool, Task

START_METHODS = ("forkserver", "spawn", "fork")

#: Runs a test once for each start method.
every_method = pytest.mark.parametrize("method", START_METHODS)


def pool(
    method: str,
    max_workers: int = 2,
    *,
    max_tasks_per_child: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    memory_budget: int | str | None = None,
) -> ProcessPool:
    """A pool of that start method. A process with threads may not fork, and faulthandler_timeout has one: ends it."""
    if method == "fork":
        faulthandler.cancel_dump_traceback_later()
    return ProcessPool(
        max_workers,
        start_method=method,
        max_tasks_per_child=max_tasks_per_child,
        initializer=initializer,
        initargs=initargs,
        memory_budget=memory_budget,
    )


def run(tasks: list[Task], pool: ProcessPool, **options: Any) -> ProcessExecutionReport:  # noqa: ANN401  run's own
    """Run the tasks as one process."""
    return Process(tasks).run(pool, **options)


def failures(report: ProcessExecutionReport) -> dict[str, str]:
    """{name of each task that failed: type of its error}."""
    return {
        name: entry.error.exception_type.rpartition(".")[2]
        for name, entry in report.errored.items()
        if entry.error is not None
    }


def results(report: ProcessExecutionReport) -> dict[str, Any]:
    """{name of each task that succeeded: its result}."""
    return {name: entry.result for name, entry in report.successes.items()}


def is_alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def living(pids: list[int], within: float = 0.0) -> list[int]:
    """Those that are still alive when they have had `within` seconds to end."""
    give_up_at = time.monotonic() + within
    while (alive := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return alive


def pids_in(folder: Path) -> dict[str, int]:
    """{name: process id} of the files that `note_pid` made."""
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".part"}
    return {name: int(text) for name, text in texts.items() if text}  # A program's is empty for a moment.
