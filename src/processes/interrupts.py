"""
Ctrl-C while a run goes on: recorded, never raised in the middle of something.

Runs in the parent, in the main thread; elsewhere Python delivers no signal. A handler that the program installed itself
is left alone.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType


class Interrupts:
    """While this lasts, the first SIGINT calls a function, and all are counted."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        """`on_first` is called by the handler: it may raise, and must not wait."""
        self._on_first = on_first
        self._is_installed = False
        self.count = 0

    def __enter__(self) -> Self:
        """Take over from Python's own handler, and from no other."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._is_installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, unless somebody took it meanwhile."""
        if self._is_installed and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  a handler's signature
        self.count += 1
        if self.count == 1:
            self._on_first()
