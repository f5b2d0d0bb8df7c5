"""
Signals that ask for the end while a run goes on: recorded, never raised in the middle of something.

Runs in the parent, in the main thread; elsewhere Python delivers no signal. SIGINT is taken over from Python's own
handler, and from the one of `asyncio.run`, whose loop does not turn while a run goes on; SIGTERM and SIGHUP where
nobody handles them, so that they would end the program at once. What the program installed itself is left alone.

A handler runs between any two instructions of the main thread. It records; it raises only where somebody has said that
this does no harm: in a task that runs in this thread, in code of the user's that pickles, and at a second Ctrl-C in
`patiently`.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from processes.exceptions import RunTerminated

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

#: How long what writes logs and tells events may still take after a second Ctrl-C, in seconds: enough for what has
#: nothing left to do to end, and nothing that somebody who is impatient notices.
_GRACE_S = 0.1


class _ImpatientError(BaseException):
    """A second Ctrl-C came while `patiently` waited."""


class Interrupts:
    """
    While this lasts, signals that ask for the end are recorded, and whoever asked for it is told.

    Attributes:
        first: Number of the first signal that came, or None.
        is_hurried: Whether Ctrl-C was pressed after another signal had come. A second SIGTERM or SIGHUP does not count:
            supervisors and terminals send several of them in a row, without a person being behind it.
        on_signal: Called by the handler with what the signal means as an exception; it may raise that, and must not
            wait.
    """

    def __init__(self) -> None:
        """Nothing is taken over yet."""
        self.first: int | None = None
        self.is_hurried = False
        self.on_signal: Callable[[BaseException], None] | None = None
        self._is_waiting = False  # in `patiently`: a second Ctrl-C raises
        self._before: dict[int, Any] = {}  # {signal: whom it was taken over from}
        self._outer: Interrupts | None = None  # of a run in whose task this one goes on, in this thread

    def error(self, text: str = "") -> KeyboardInterrupt | RunTerminated | None:
        """What came first as an exception, with a text where it is to have one; None where nothing came."""
        return None if self.first is None else _error_of(self.first, text)

    def patiently(self, wait: Callable[[], None]) -> None:
        """Call what waits for a thread, until it returns or Ctrl-C is pressed a second time."""
        try:
            self._is_waiting = True
            if not self.is_hurried:
                wait()
        except _ImpatientError:
            pass
        finally:
            self._is_waiting = False
        if self.is_hurried:
            waiting = threading.Thread(target=wait, name="processes-impatient", daemon=True)
            waiting.start()
            waiting.join(_GRACE_S)

    def __enter__(self) -> Self:
        """Take over what nobody else handles."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                outer = getattr(handler, "__self__", None)
                if isinstance(outer, Interrupts):
                    self._outer = outer
                elif not _is_free(number, handler):
                    continue
                self._before[number] = handler
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, unless somebody took it meanwhile."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  a handler's signature
        around: Interrupts | None = self
        while around is not None:  # A run around this one ends too; it is told by the end of its task.
            around._record(number)
            around = around._outer
        if self._is_waiting and self.is_hurried:
            raise _ImpatientError
        if self.on_signal is not None:
            self.on_signal(_error_of(number))

    def _record(self, number: int) -> None:
        if self.first is None:
            self.first = number
        elif number == signal.SIGINT:
            self.is_hurried = True


def _error_of(number: int, text: str = "") -> KeyboardInterrupt | RunTerminated:
    if number != signal.SIGINT:
        return RunTerminated(number, text)
    return KeyboardInterrupt(text) if text else KeyboardInterrupt()


def _is_free(number: int, handler: object) -> bool:
    """Whether a signal's handler is Python's own."""
    if number == signal.SIGINT:
        return handler is signal.default_int_handler or _is_of_asyncio(handler)
    return handler is signal.SIG_DFL


def _is_of_asyncio(handler: object) -> bool:
    """
    Whether it is the one that `asyncio.run` puts in the place of Python's own.

    It asks the loop to cancel the main task, and that is the one in which this run holds the loop up.
    """
    runner = getattr(sys.modules.get("asyncio.runners"), "Runner", None)
    method = getattr(getattr(handler, "func", None), "__func__", None)
    return method is not None and method is getattr(runner, "_on_sigint", None)
