"""
A blocking call held to a time limit as a whole.

A socket's own time-out counts anew with each byte: a server that drips bytes holds its client for ever. So the call is
made in a daemon thread, which the caller leaves behind at the limit and tells to stop. It stops at its next bytecode;
where it is stuck in a system call that is when the call returns, and a socket's own time-out sees to that.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: A socket whose own time-out is the same limit gives up at this moment too, and closes what it opened in order; to be
#: stopped in the midst of that would leave it to the garbage collector, with a ResourceWarning.
GRACE_S = 0.05


def within(seconds: float, call: Callable[[], T]) -> T:
    """
    What `call` returns or raises, if it does so in time. It sees the caller's context variables.

    Raises:
        TimeoutError: It did not. It may have had its effect all the same.
    """
    made = _Call(call)
    thread = threading.Thread(target=made.run, name="processes.comms", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # While the interpreter shuts down no thread can be started; a limit broken beats a report lost.
        return call()
    try:
        # Can be interrupted by Ctrl-C, unlike a call into the resolver.
        thread.join(min(seconds + GRACE_S, threading.TIMEOUT_MAX))
    finally:
        made.stop(thread)
    return made.outcome()


class _Overdue(BaseException):
    """Raised in the thread of a call whose time is up; nobody sees it."""


class _Call(Generic[T]):
    """A call in a thread of its own, and how it ended."""

    def __init__(self, call: Callable[[], T]) -> None:
        context = contextvars.copy_context()
        self._call: Callable[[], T] = lambda: context.run(call)
        # Held to say that the call has ended, or that it is to stop: only one of the two happens.
        self._lock = threading.Lock()
        self._is_stopped = False
        self._result: list[T] = []  # one, when it returned
        self._error: BaseException | None = None

    def run(self) -> None:
        """In the thread."""
        try:
            self._make()
            # The exception may be on its way still. It is raised at a backward jump at the latest, and must be here:
            # outside, the thread's bookkeeping would print it.
            for _ in range(10):
                pass
        except _Overdue:
            pass

    def _make(self) -> None:
        result: list[T] = []
        error: BaseException | None = None
        try:
            result.append(self._call())
        except _Overdue:
            raise
        except BaseException as raised:  # noqa: BLE001  handed over, whatever it is
            error = raised
        with self._lock:
            if not self._is_stopped:
                self._result, self._error = result, error

    def stop(self, thread: threading.Thread) -> None:
        """Make it stop, unless it has ended."""
        if not thread.is_alive():
            return
        import ctypes

        with self._lock:
            if self._result or self._error is not None:
                return
            self._is_stopped = True
            # PyThreadState_SetAsyncExc raises in another thread: "C API, Thread State". With a socket it does what
            # closing it from outside would, but nobody outside can get at the socket that `urlopen` opens.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Overdue))

    def outcome(self) -> T:
        """In the caller, once it has ended or was stopped."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            if not self._result:
                raise TimeoutError
            return self._result.pop()
        finally:
            del error  # Its traceback has this frame, which would have it: a cycle.
