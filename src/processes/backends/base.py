"""
What every backend promises.

A backend runs attempts and tells what became of them. It knows nothing of the graph: the scheduler places an attempt
when its dependencies have ended and the backend has room (`slots`), or behind the last of them where there is room
(`tails`), and the backend reports that it started, and that
it ended or was not made. An attempt's time-out and memory limit are the backend's affair, since it alone knows when the
attempt began. One thread calls all methods.
"""

from __future__ import annotations

import abc
import contextlib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from processes.attempt import Call
    from processes.events import BackendEvent, StartAttempt
    from processes.interrupts import Wakeup
    from processes.logs import Destination


class Backend(abc.ABC):
    """A way to run attempts, for one run."""

    #: What it can keep a task to: "timeout" (hard), "memory_limit", "capture_output".
    enforces: ClassVar[frozenset[str]] = frozenset()

    #: Bytes that all attempts together may use; None for no limit.
    memory_budget: int | None = None

    #: Whether results are handed on as the very objects, so that a handle is the object.
    shares_memory: ClassVar[bool] = False

    #: Within this no thread of the run's own lives: for a backend that has to fork while the run goes on.
    quiet: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    #: What `wait` has to wait for too, in the main thread: without it a signal may be heard late.
    wakeup: Wakeup | None = None

    @property
    def way(self) -> tuple[str, int | None, str]:
        """Mode, tasks at a time and start method, for the report; empty where there are none."""
        return "", None, ""

    @property
    def keeps_order(self) -> bool:
        """Whether tasks are to run in their order as far as they can: where no two run at a time, nothing is won."""
        return self.way[1] == 1

    @property
    def tails(self) -> Sequence[tuple[int, int]]:
        """Attempts behind which those may be placed now that take their results, and how many, one behind the other."""
        return ()

    @property
    @abc.abstractmethod
    def slots(self) -> int:
        """How many attempts may be placed at a time; it may change while the run goes on."""

    def check(self, calls: Sequence[Call]) -> list[Exception]:  # noqa: ARG002  for those that have something to say
        """Why `open` would refuse the tasks, all of it; nothing is started, and this is not opened afterwards."""
        return []

    @abc.abstractmethod
    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        """
        Get ready to run the tasks; called once, before anything else.

        Args:
            calls: What each task calls, by its position in the run.
            destinations: Where each task's log records go; for backends that share the caller's memory;
                None where nobody listens.

        Raises:
            ExceptionGroup: Of one error for each value that cannot reach the place where it is needed.
        """

    @abc.abstractmethod
    def start(self, job: StartAttempt) -> None:
        """Place an attempt; never blocks."""

    @abc.abstractmethod
    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """End an attempt, if it can be ended; it then fails with `error`, or is returned if it had not begun."""

    def recall(self) -> None:  # noqa: B027  nothing to do is a sound default
        """Return all attempts that have not begun, where there can be any."""

    @abc.abstractmethod
    def wait(self, until: float | None) -> list[BackendEvent]:
        """What happened, waiting for it until an instant of CLOCK_MONOTONIC; empty if nothing did."""

    @abc.abstractmethod
    def interrupt(self, error: BaseException) -> None:
        """
        The user pressed Ctrl-C, or the program is told to end: make `wait` return soon. Called by a signal handler.

        Raises:
            BaseException: `error`, where code of the user's runs in the caller's thread and is to end so: an attempt,
                which fails of it, or pickling before the run, which `open` then leaves.
        """

    @staticmethod
    def fetch(handle: object) -> object:
        """The object behind a result's handle. A report keeps this function, and nothing of the run beside it."""
        return handle

    def release(self, handle: object) -> None:  # noqa: B027  nothing to do is a sound default
        """Nobody needs a result any more."""

    @abc.abstractmethod
    def close(self) -> None:
        """End whatever still runs, and free everything but the handles that were given out; safe to repeat."""
