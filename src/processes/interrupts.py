"""
Signals that ask for the end while a run goes on: recorded, never raised in the middle of something.

Runs in the parent, in the main thread; elsewhere Python delivers no signal. SIGINT is taken over from Python's own
handler, and from the one of `asyncio.run`, whose loop does not turn while a run goes on; SIGTERM and SIGHUP where
nobody handles them, so that they would end the program at once. What the program installed itself is left alone.

A handler runs between any two instructions of the main thread. It records; it raises only where somebody has said that
this does no harm: in a task that runs in this thread, in code of the user's that pickles, and at a second Ctrl-C in
`patiently`.

It runs when the main thread gets to it, and a thread that is about to wait does not: a signal between its last
instruction and the wait itself is heard when the wait ends, which may be never. So who waits, waits for a `Wakeup` too.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading

# What `signal` wraps: 10 us less for each signal that is taken over, where a small sequential run takes 120 in all.
from _signal import getsignal  # type: ignore[import-not-found]
from _signal import signal as set_handler
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


class Wakeup:
    """
    A descriptor that is readable once a signal has come: the interpreter's C code writes to it, in that very moment.

    It is made for the first who waits: most sequential runs never do. What came for others, such as an event loop
    around the run, is passed on at the end.
    """

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._ends: tuple[socket.socket, socket.socket] | None = None  # to read and to write
        self._poll = select.poll()
        self._came = b""  # signals that were read, a byte each
        self._before = -1  # what the program has for this

    def fileno(self) -> int:
        """For who waits for other things as well."""
        return self._reader().fileno()

    def poke(self) -> None:
        """Make it readable: from any thread, also when it is closed."""
        ends = self._ends
        if ends is not None:
            with contextlib.suppress(OSError):  # Full is readable.
                ends[1].send(b"\0")

    def drain(self) -> None:
        """Make it unreadable until the next signal."""
        reader = self._reader()
        with contextlib.suppress(BlockingIOError):
            while True:
                self._came += reader.recv(4096).replace(b"\0", b"")

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is readable, or for that many seconds; the first time it is readable already."""
        self._reader()
        self._poll.poll(None if timeout is None else timeout * 1000)
        self.drain()

    def close(self) -> None:
        """Put the program's own back, unless somebody took the place meanwhile."""
        if self._ends is None:
            return
        reader, writer = self._ends
        now = signal.set_wakeup_fd(self._before)
        if now not in (writer.fileno(), -1):
            signal.set_wakeup_fd(now)
        self.drain()
        if self._before >= 0:
            with contextlib.suppress(OSError):
                os.write(self._before, self._came)
        reader.close()
        writer.close()

    def _reader(self) -> socket.socket:
        if self._ends is None:
            reader, writer = socket.socketpair()
            reader.setblocking(False)
            writer.setblocking(False)
            writer.send(b"\0")  # Of what has come until now nothing was written.
            self._poll.register(reader, select.POLLIN)
            self._before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            self._ends = reader, writer
        return self._ends[0]


class Interrupts:
    """
    While this lasts, signals that ask for the end are recorded, and whoever asked for it is told.

    Attributes:
        first: Number of the first signal that came, or None.
        is_hurried: Whether Ctrl-C was pressed after another signal had come. A second SIGTERM or SIGHUP does not count:
            supervisors and terminals send several of them in a row, without a person being behind it.
        on_signal: Called by the handler with what the signal means as an exception; it may raise that, and must not
            wait.
        wakeup: For who waits in the main thread; None in another, where no signal is handled.
    """

    def __init__(self) -> None:
        """Nothing is taken over yet."""
        self.first: int | None = None
        self.is_hurried = False
        self.on_signal: Callable[[BaseException], None] | None = None
        self.wakeup: Wakeup | None = None
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
            if self.first is None:
                wait()
                return
        except _ImpatientError:  # Two signals came in there.
            pass
        finally:
            self._is_waiting = False
        assert self.wakeup is not None  # noqa: S101  or no signal had come
        self._wait_elsewhere(wait, self.wakeup)

    def _wait_elsewhere(self, wait: Callable[[], None], wakeup: Wakeup) -> None:
        """Let another thread wait, so that this one hears of signals."""
        ended = False

        def wait_and_tell() -> None:
            nonlocal ended
            wait()
            ended = True
            wakeup.poke()

        thread = threading.Thread(target=wait_and_tell, name="processes-patience", daemon=True)
        thread.start()
        while not ended and not self.is_hurried:
            wakeup.wait()
        thread.join(_GRACE_S if self.is_hurried else None)

    def __enter__(self) -> Self:
        """Take over what nobody else handles."""
        if threading.current_thread() is threading.main_thread():
            self.wakeup = Wakeup()
            for number in _SIGNALS:
                handler = getsignal(number)
                outer = getattr(handler, "__self__", None)
                if isinstance(outer, Interrupts):
                    self._outer = outer
                elif not _is_free(number, handler):
                    continue
                self._before[number] = handler
                set_handler(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, unless somebody took it meanwhile."""
        for number, handler in self._before.items():
            if getsignal(number) == self._handle:
                set_handler(number, handler)
        if self.wakeup is not None:
            self.wakeup.close()

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
    return handler == signal.SIG_DFL


def _is_of_asyncio(handler: object) -> bool:
    """
    Whether it is the one that `asyncio.run` puts in the place of Python's own.

    It asks the loop to cancel the main task, and that is the one in which this run holds the loop up.
    """
    runner = getattr(sys.modules.get("asyncio.runners"), "Runner", None)
    method = getattr(getattr(handler, "func", None), "__func__", None)
    return method is not None and method is getattr(runner, "_on_sigint", None)
