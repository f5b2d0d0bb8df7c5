"""
What sequential and thread mode share: attempts in this process, where nothing can be killed.

An attempt with a time-out runs in a daemon thread. At its deadline it is reported, and the thread is left behind: it
never keeps the interpreter alive. Another attempt of the same task waits for it a while, so that copies of one task do
not pile up.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import resource
import threading
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from processes import attempt, logs
from processes.attempt import bind, caught, is_retryable
from processes.backends.base import Backend
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    BackendEvent,
    StartAttempt,
    TroubleSeen,
)
from processes.exceptions import TaskTimeoutError
from processes.failure import let_go, of_error
from processes.usage import Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.attempt import Call, Raised
    from processes.logs import Destination

#: How long another attempt waits for a thread that was left behind, in seconds, unless the time-out is longer.
_OVERDUE_WAIT_S = 1.0


class _Begun(NamedTuple):
    """An attempt that runs in a thread."""

    job: StartAttempt
    at: float
    thread: threading.Thread


class _Held(NamedTuple):
    """An attempt that waits for an earlier one of the same task to let go."""

    job: StartAttempt
    until: float


class LocalBackend(Backend):
    """Attempts in threads of this process, `max_workers` at a time."""

    shares_memory = True

    def __init__(self, max_workers: int) -> None:
        """Threads start when they are needed."""
        self._max_workers = max_workers
        self._calls: Sequence[Call] = ()
        self._destinations: Sequence[Destination | None] = ()
        self._context = contextvars.copy_context()
        self._capture = contextlib.ExitStack()
        # From the threads: what happened; None only wakes the loop.
        self._inbox: queue.SimpleQueue[BackendEvent | None] = queue.SimpleQueue()
        self._begun: dict[int, _Begun] = {}  # {attempt id: it}, those that count still
        self._overdue: dict[int, threading.Thread] = {}  # {task: the thread that was left behind}
        self._held: list[_Held] = []
        self._events: list[BackendEvent] = []
        self._interruption: BaseException | None = None  # once there, `wait` is to return, with or without events

    @property
    def slots(self) -> int:
        """One attempt a thread."""
        return self._max_workers

    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        """From now on what a task logs goes to its file as well."""
        self._calls, self._destinations = calls, destinations
        self._context = contextvars.copy_context()
        self._capture.enter_context(logs.thread_capture())

    def start(self, job: StartAttempt) -> None:
        """Run it in a thread of its own."""
        overdue = self._overdue.get(job.task)
        if overdue is not None and overdue.is_alive():
            timeout = self._calls[job.task].timeout or 0.0
            self._held.append(_Held(job, monotonic() + max(timeout, _OVERDUE_WAIT_S)))
            threading.Thread(target=self._tell_when_gone, args=(overdue,), daemon=True).start()
            return
        thread = threading.Thread(
            target=self._run_in_thread, args=(job,), name=f"task {self._calls[job.task].name}", daemon=True
        )
        self._begun[job.attempt_id] = _Begun(job, monotonic(), thread)
        thread.start()

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """Report it as ended; its thread is left behind."""
        begun = self._begun.get(attempt_id)
        if begun is not None:
            self._abandon(begun, error)
        self._let_go([held for held in self._held if held.job.attempt_id == attempt_id])

    def recall(self) -> None:
        """Those that wait for an earlier one."""
        self._let_go(list(self._held))

    def _let_go(self, helds: Sequence[_Held]) -> None:
        for held in helds:
            self._held.remove(held)
            self._events.append(AttemptReturned(held.job.attempt_id))

    def wait(self, until: float | None) -> list[BackendEvent]:
        """Wait for a thread's news, a time-out, or the end of a thread that was left behind."""
        while True:
            self._check_limits()
            self._take_news(until)
            if self._events or self._interruption is not None or (until is not None and monotonic() >= until):
                events, self._events, self._interruption = self._events, [], None
                return events

    def interrupt(self, error: BaseException) -> None:
        """Wake the loop."""
        self._interruption = error
        self._inbox.put(None)

    def close(self) -> None:
        """Stop capturing logs; whatever thread still runs goes on without being heard."""
        self._begun.clear()
        self._capture.close()

    def run_attempt(
        self, job: StartAttempt, make: Callable[..., object] = attempt.call
    ) -> AttemptsSucceeded | AttemptFailed:
        """Make the attempt in this thread; `make` calls the function."""
        call = self._calls[job.task]
        started_at, before = monotonic(), resource.getrusage(resource.RUSAGE_THREAD)
        value: object = None
        raised = None
        try:
            args, kwargs = bind(call.args, call.kwargs, job.inputs)
            destination = self._destinations[job.task]
            if destination is not None:  # Here, not by the runner: the line must stand before what the task logs.
                destination.announce(started_at)
            with logs.records_of(destination):
                value = self._context.copy().run(make, call.func, args, kwargs)
        except BaseException as error:  # noqa: BLE001  a task's SystemExit is the task's failure
            raised = self._caught(error, call)
            let_go(error)
        after = resource.getrusage(resource.RUSAGE_THREAD)
        measure = Measure(
            started_at, monotonic(), None, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        )
        if raised is None:
            return AttemptsSucceeded((job.attempt_id,), (value,), (measure,))
        return AttemptFailed(job.attempt_id, raised.failure, raised.retryable, measure, raised.error)

    def _caught(self, error: BaseException, call: Call) -> Raised:
        return caught(error, call)

    def _run_in_thread(self, job: StartAttempt) -> None:
        self._tell(AttemptStarted(job.attempt_id, monotonic()))
        self._tell(self.run_attempt(job))

    def _tell(self, news: BackendEvent | None) -> None:
        self._inbox.put(news)
        if self.wakeup is not None:
            self.wakeup.poke()  # After: whoever it wakes finds the news.

    def _take_news(self, until: float | None) -> None:
        """Wait for one event, then take all there are."""
        limits = [limit for limit in (until, *self._limits()) if limit is not None]
        if self._events:
            limits.append(0.0)
        timeout = max(0.0, min(limits) - monotonic()) if limits else None
        with contextlib.suppress(queue.Empty):
            if timeout == 0:
                news = self._inbox.get_nowait()
            elif self.wakeup is None:
                news = self._inbox.get(timeout=timeout)
            else:
                self.wakeup.wait(timeout)
                news = self._inbox.get_nowait()
            while True:
                if news is not None:
                    self._count(news)
                news = self._inbox.get_nowait()

    def _count(self, news: BackendEvent) -> None:
        """Take in what a thread tells, unless it was left behind meanwhile."""
        match news:
            case AttemptsSucceeded([attempt_id]) | AttemptFailed(attempt_id):
                begun = self._begun.pop(attempt_id, None)
                if begun is not None:
                    begun.thread.join()  # It has said its last; now it is gone as well.
                    self._events.append(news)
            case AttemptStarted(attempt_id) if attempt_id in self._begun:
                self._events.append(news)
            case _:
                pass

    def _limits(self) -> list[float]:
        timed = [
            begun.at + timeout
            for begun in self._begun.values()
            if (timeout := self._calls[begun.job.task].timeout) is not None
        ]
        return timed + [held.until for held in self._held]

    def _check_limits(self) -> None:
        now = monotonic()
        for begun in list(self._begun.values()):
            call = self._calls[begun.job.task]
            if call.timeout is not None and now >= begun.at + call.timeout and not self._has_ended(begun):
                self._abandon(begun, TaskTimeoutError.of_attempt(call.name, call.timeout))
        for held in list(self._held):
            if not self._overdue[held.job.task].is_alive():
                self._held.remove(held)
                self.start(held.job)
            elif now >= held.until:
                self._held.remove(held)
                self._give_up(held)

    def _has_ended(self, begun: _Begun) -> bool:
        """Its outcome is on its way: it made it."""
        return not begun.thread.is_alive()

    def _abandon(self, begun: _Begun, error: BaseException) -> None:
        del self._begun[begun.job.attempt_id]
        self._overdue[begun.job.task] = begun.thread
        call = self._calls[begun.job.task]
        retryable = is_retryable(error, call.retry_on)
        measure = Measure(begun.at, monotonic())
        why = "ran over its time" if isinstance(error, TaskTimeoutError) else "was to stop"
        text = (
            f"task {call.name!r} {why}; its thread cannot be stopped and goes on. "
            'parallel="processes" stops such tasks.'
        )
        destination = self._destinations[begun.job.task]
        if destination is not None:
            destination.announce(begun.at)
            destination.line(logging.WARNING, text, measure.ended_at)
        self._events.append(TroubleSeen(text))
        self._events.append(AttemptFailed(begun.job.attempt_id, of_error(error), retryable, measure, error))

    def _tell_when_gone(self, thread: threading.Thread) -> None:
        thread.join()
        self._tell(None)

    def _give_up(self, held: _Held) -> None:
        call = self._calls[held.job.task]
        error = TaskTimeoutError(
            f"Task '{call.name}' timed out after {call.timeout}s, and that attempt still runs: it cannot be stopped, "
            'so no other is made. Use parallel="processes".',
            task_name=call.name,
            timeout=call.timeout or 0.0,
        )
        now = monotonic()
        self._events.append(
            AttemptFailed(held.job.attempt_id, of_error(error), False, Measure(now, now), error, was_made=False)
        )
