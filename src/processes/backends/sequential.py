"""
Attempts one after another in the caller's thread.

Only an attempt with a time-out runs in a thread of its own: the caller could not report it in time otherwise. So does,
where the caller is inside an event loop, one of a coroutine function: a thread takes one loop at a time.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from processes import attempt
from processes.attempt import is_coroutine_function
from processes.backends.local import LocalBackend
from processes.events import AttemptReturned

if TYPE_CHECKING:
    from collections.abc import Callable

    from processes.events import BackendEvent, StartAttempt


class SequentialBackend(LocalBackend):
    """One attempt at a time, made while the runner waits."""

    def __init__(self) -> None:
        """One slot."""
        super().__init__(max_workers=1)
        self._next: StartAttempt | None = None
        self._is_running = False  # an attempt, in the caller's thread

    @property
    def way(self) -> tuple[str, int | None, str]:
        """What the report says of it."""
        return "sequential", 1, ""

    def start(self, job: StartAttempt) -> None:
        """Keep it for `wait`, unless it needs a thread."""
        call = self._calls[job.task]
        if call.timeout is None and not (_is_in_loop() and is_coroutine_function(call.func)):
            self._next = job
        else:
            super().start(job)

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """It has not begun, or it runs in a thread."""
        if self._next is not None and self._next.attempt_id == attempt_id:
            self._next = None
            self._events.append(AttemptReturned(attempt_id))
        else:
            super().cancel(attempt_id, error)

    def wait(self, until: float | None) -> list[BackendEvent]:
        """Make the attempt that was placed, unless the run is interrupted."""
        if self._next is None or self._interruption is not None:
            return super().wait(until)
        job, self._next = self._next, None
        return [self.run_attempt(job, self._call)]

    def _call(self, func: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """
        Call a task's function so that an interrupt ends it.

        Only within this one raises: everything before and after is ours, and goes on to its end.
        """
        try:
            self._is_running = True
            if self._interruption is not None:  # It came a moment before.
                raise self._interruption
            return attempt.call(func, args, kwargs)
        finally:
            self._is_running = False

    def interrupt(self, error: BaseException) -> None:
        """Raise in the task that runs in this thread; otherwise wake the loop."""
        if self._is_running:
            raise error
        super().interrupt(error)


def _is_in_loop() -> bool:
    events = sys.modules.get("asyncio.events")  # A program without asyncio is not made to load it.
    return events is not None and events._get_running_loop() is not None
