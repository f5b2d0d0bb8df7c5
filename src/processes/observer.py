"""
What a run tells while it goes on: public events, handed to the caller's function on a thread of its own.

Runs in the parent. Events are in order, and a function that is slow or raises stops nothing: the run goes on, and waits
at its end until everything has been told.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processes.failure import text_of
from processes.logs import LIBRARY_LOGGER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from processes.report import ProcessExecutionReport, TaskReportEntry


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has begun."""

    __module__ = "processes"

    #: Name of the Process.
    process_name: str
    #: How many tasks it has.
    tasks: int
    #: When, with time zone.
    at: datetime


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """An attempt of a task has begun."""

    __module__ = "processes"

    #: The task's name.
    name: str
    #: 1 for the first.
    attempt: int
    #: Process id of the child that makes it; None in sequential and thread mode.
    worker_pid: int | None
    #: When, with time zone.
    at: datetime


@dataclass(frozen=True, slots=True)
class TaskRetried:
    """An attempt of a task has failed, and another will be made."""

    __module__ = "processes"

    #: The task's name.
    name: str
    #: The attempt that failed, 1 for the first.
    attempt: int
    #: Type and text of its error.
    error: str
    #: Seconds until the next attempt.
    delay: float


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """A task has come to its end; a skipped one too."""

    __module__ = "processes"

    #: As in the report.
    entry: TaskReportEntry


@dataclass(frozen=True, slots=True)
class RunFinished:
    """A run has ended."""

    __module__ = "processes"

    report: ProcessExecutionReport


#: What `Process.run(on_event=...)` is called with.
RunEvent = RunStarted | TaskStarted | TaskRetried | TaskFinished | RunFinished


class Observer:
    """Calls a function with one event after another, on a thread that lives as long as the run."""

    def __init__(self, on_event: Callable[[RunEvent], object]) -> None:
        """Nothing is called before `start`."""
        self._on_event = on_event
        self._events: queue.SimpleQueue[RunEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.troubles: list[str] = []

    def tell(self, event: RunEvent) -> None:
        """Put an event behind those that wait."""
        self._events.put(event)

    def tell_started(self, name: str, attempt: int, worker_pid: int | None, at: datetime) -> None:
        """An attempt of a task has begun."""
        self.tell(TaskStarted(name, attempt, worker_pid, at))

    def tell_retried(self, name: str, attempt: int, error: str, delay: float) -> None:
        """An attempt has failed, and another follows."""
        self.tell(TaskRetried(name, attempt, error, delay))

    def tell_finished(self, entry: TaskReportEntry) -> None:
        """A task has come to its end."""
        self.tell(TaskFinished(entry))

    def tell_run_started(self, name: str, tasks: int, at: datetime) -> None:
        """The run begins."""
        self.tell(RunStarted(name, tasks, at))

    def tell_run_finished(self, report: ProcessExecutionReport) -> None:
        """The run has ended."""
        self.tell(RunFinished(report))

    def start(self) -> None:
        """Begin to call."""
        self._thread = threading.Thread(target=self._call_all, name="processes-on-event", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait until everything was told, then end the thread; safe to repeat."""
        if self._thread is not None:
            self._events.put(None)
            self._thread.join()
            self._thread = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within this its thread is not there, so that the process can fork; what is told meanwhile waits."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def _call_all(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                self._on_event(event)
            except BaseException as error:  # noqa: BLE001  foreign code: whatever it raises, the next event is told
                self._say(error)

    def _say(self, error: BaseException) -> None:
        """Once: it may fail for each of thousands of tasks."""
        if not self.troubles:
            self.troubles.append(f"on_event raised {type(error).__name__}: {text_of(error)}")
            logging.getLogger(LIBRARY_LOGGER).error(self.troubles[0], exc_info=error)
