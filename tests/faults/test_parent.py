"""
Faults beside and in the program that runs a batch: its threads, signals, clock, forks, and what it is told of the run.

The next one is one line in SURROUNDINGS: what goes on in the program while a batch with faults of its own runs.
"""

import contextlib
import itertools
import logging
import os
import re
import resource
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random

import pytest

from processes import Task, TaskFinished, TaskStarted, WorkerStartError
from support import faults
from support.batches import Batch, Fails, Row, died, hold
from support.pools import START_METHODS, every_method, failures, pool, run

_ROWS = [
    Row("raises", faults.raise_value_error, Fails("ValueError", "the deed")),
    Row("is-killed", faults.be_killed, died("SIGKILL")),
    Row("hangs", faults.sleep_on, Fails("TaskTimeoutError"), options={"timeout": 0.3}),
    Row("works", faults.use_threads, [1, 1, 2, 6, 24, 120]),
]

# ---- what goes on meanwhile ------------------------------------------------------------------------------------------


class SlowHandler(logging.Handler):
    """Holds its lock most of the time."""

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(0.001)


@contextlib.contextmanager
def threads_that(work: Callable[[], None], count: int) -> Iterator[None]:
    """So many that do it again and again."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.is_set():
            work()

    threads = [threading.Thread(target=repeat) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextlib.contextmanager
def threads_that_log() -> Iterator[None]:
    logger, handler = logging.getLogger("of the program"), SlowHandler()
    logger.addHandler(handler)
    try:
        with threads_that(lambda: logger.warning("again"), 20):
            yield
    finally:
        logger.removeHandler(handler)


def hold_the_gil() -> None:
    """For some 50 ms, in C code that lets nobody else have it."""
    sum(itertools.repeat(1, 5_000_000))


def threads_that_hold_the_gil() -> AbstractContextManager[None]:
    return threads_that(hold_the_gil, 2)


@contextlib.contextmanager
def deaths_of_children_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


@contextlib.contextmanager
def warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def clock_that_jumps() -> Iterator[None]:
    """By an hour, to and fro, each time that it is asked."""
    jumps, asked = itertools.cycle((0.0, 3600.0, -3600.0)), time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: asked() + next(jumps))
        yield


THREADLESS = ("forkserver", "spawn")  # A program with threads may not fork.

SURROUNDINGS: list[tuple[Callable[[], AbstractContextManager[None]], tuple[str, ...]]] = [
    (threads_that_log, THREADLESS),
    (threads_that_hold_the_gil, THREADLESS),
    (deaths_of_children_ignored, START_METHODS),
    (warnings_as_errors, START_METHODS),
    (clock_that_jumps, START_METHODS),
]


@pytest.mark.parametrize(
    ("surroundings", "method"),
    [(surroundings, method) for surroundings, methods in SURROUNDINGS for method in methods],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_program_does_not_disturb_the_batch(
    surroundings: Callable[[], AbstractContextManager[None]], method: str, tmp_path: Path
) -> None:
    """Whatever else goes on in it, outcomes are exact."""
    with surroundings():
        hold(_ROWS, method, tmp_path)


# ---- what it does while it is told -----------------------------------------------------------------------------------


@every_method
def test_listener_that_raises_stops_nothing(method: str, tmp_path: Path) -> None:
    """Each event is told, and what is raised is said once."""
    told: list[object] = []

    def on_event(event: object) -> None:
        told.append(event)
        raise faults.OfNoKind("the listener's")

    rows = [*_ROWS[:-1], Row("tells", len, 3, ("abc",), warns="OfNoKind")]
    Batch(rows, tmp_path).run(lambda: pool(method), on_event=on_event)
    assert sum(isinstance(event, TaskFinished) for event in told) > len(rows)


@every_method
def test_fork_of_the_program_does_not_hold_up_the_end(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has all descriptors of the run, open for as long as it lives."""
    monkeypatch.setattr("processes.launch._END_S", 60.0)  # So long an end that is held up would take.
    reading, writing = os.pipe()
    copies: list[int] = []

    def fork_once(event: object) -> None:
        if isinstance(event, TaskStarted) and not copies:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: the program has threads.
                pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            copies.append(pid)

    try:
        started = time.monotonic()
        Batch(_ROWS, tmp_path).run(lambda: pool(method), on_event=fork_once)
        assert time.monotonic() - started < 50
        assert os.waitpid(copies[0], os.WNOHANG) == (0, 0)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(copies[0], 0)


# ---- what it lacks ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def few_descriptors(left: int) -> Iterator[None]:
    """Only so many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd"))) + 1
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        with contextlib.suppress(OSError):  # when there is none left below
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + left, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


@every_method
def test_program_without_descriptors_is_told_so(method: str, tmp_path: Path) -> None:
    """However many are left when the run starts, it succeeds or says what is missing, and leaves nothing behind."""
    outcomes = []
    for left in range(40):
        with few_descriptors(left):
            outcomes.append(outcome_of_run(method))
    assert set(outcomes) == {3, "refused"}
    assert (outcomes[0], outcomes[-1]) == ("refused", 3)
    hold(_ROWS, method, tmp_path)


def outcome_of_run(method: str) -> object:
    try:
        return run([Task("t", len, args=("abc",))], pool(method)).entries["t"].result
    except (OSError, WorkerStartError) as error:
        return "refused" if re.search("Too many open files|no descriptor left", str(error)) else error


# ---- time-outs that are close ----------------------------------------------------------------------------------------


@every_method
def test_task_that_ends_about_its_timeout_has_one_outcome(method: str) -> None:
    """Within 30 ms of it, before or after; whatever it is, it is whole, and those behind it are not hit."""
    random, timeout = Random(7), 0.1
    near = [random.uniform(-0.03, 0.03) for _ in range(60)]
    tasks = []
    for number, off in enumerate(near):
        tasks.append(Task(f"near{number}", faults.sleep_and_return, args=(timeout + off, number), timeout=timeout))
        tasks.append(Task(f"instant{number}", abs, args=(number,), timeout=60))
    report = run(tasks, pool(method, 4))
    failed = failures(report)
    assert set(failed.values()) <= {"TaskTimeoutError"}
    for number in range(len(near)):
        assert report.entries[f"instant{number}"].result == number
        entry = report.entries[f"near{number}"]
        assert entry.attempts == 1
        assert (entry.result, entry.error is None) in (((number, True)), (None, False))
        if entry.error is None:
            assert entry.elapsed_seconds > timeout + near[number] - 0.001
        else:
            assert entry.elapsed_seconds >= timeout
