"""Signals as a new program has them, and how to send some to the main thread."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any] | signal.Handlers


@contextmanager
def as_in_a_new_program(**handlers: Handler) -> Iterator[None]:
    """Python's own handlers, but for those given by the signal's name; they must be back at the end."""
    own: dict[str, Handler] = {
        "SIGINT": signal.default_int_handler,
        "SIGTERM": signal.SIG_DFL,
        "SIGHUP": signal.SIG_DFL,
        **handlers,
    }
    before = {name: signal.signal(signal.Signals[name], handler) for name, handler in own.items()}
    try:
        yield
        assert {name: signal.getsignal(signal.Signals[name]) for name in own} == own
    finally:
        for name, handler in before.items():
            signal.signal(signal.Signals[name], handler)


def signal_main_thread(number: signal.Signals) -> None:
    """From any thread."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)
