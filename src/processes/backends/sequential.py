"""
Attempts one after another in the caller's thread.

Only an attempt with a time-out runs in a thread of its own: the caller could not report it in time otherwise.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

from processes.backends.local import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from processes.attempt import Call, Raised
    from processes.backends.base import Job
    from processes.events import BackendEvent
    from processes.logs import Destination


class SequentialBackend(LocalBackend):
    """One attempt at a time, made while the runner waits."""

    def __init__(self) -> None:
        """One slot."""
        super().__init__(max_workers=1)
        self._next: Job | None = None
        self._interrupted = False
        self._watches_interrupt = False

    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        """Watch for Ctrl-C, to tell the user's KeyboardInterrupt from one that a task raises."""
        super().open(calls, destinations)
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._watches_interrupt = True

    def start(self, job: Job) -> None:
        """Keep it for `wait`, unless it needs a thread."""
        if self._calls[job.task].timeout is None:
            self._next = job
        else:
            super().start(job)

    def wait(self, until: float | None) -> list[BackendEvent]:
        """Make the attempt that was placed."""
        if self._next is None:
            return super().wait(until)
        job, self._next = self._next, None
        return [self.run_attempt(job)]

    def close(self) -> None:
        """Leave Ctrl-C as it was."""
        if self._watches_interrupt and signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        super().close()

    def _caught(self, error: BaseException, call: Call) -> Raised:
        if self._interrupted and isinstance(error, KeyboardInterrupt):
            raise error
        return super()._caught(error, call)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        signal.default_int_handler(number, frame)
