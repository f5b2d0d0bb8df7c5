"""A blocking call held to a time limit: what it gives in time is the caller's, what comes later is nobody's."""

import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from processes.comms.limit import within

#: For calls that end at once.
HUGE_S = 600.0
TINY_S = 0.01

variable = contextvars.ContextVar("variable", default="unset")


def test_within_returns_what_the_call_returns() -> None:
    """The object itself."""
    made = object()
    assert within(HUGE_S, lambda: made) is made


def test_within_returns_none() -> None:
    """To return nothing is an outcome too."""
    assert within(HUGE_S, lambda: None) is None


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), TimeoutError("its own")])
def test_within_raises_what_the_call_raises(error: BaseException) -> None:
    """The object itself, whatever it is."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        within(HUGE_S, fail)
    assert raised.value is error


def test_within_keeps_context_variables() -> None:
    """The call sees those of its caller."""
    token = variable.set("set")
    try:
        assert within(HUGE_S, variable.get) == "set"
    finally:
        variable.reset(token)


def test_within_takes_a_limit_beyond_what_the_platform_can_wait() -> None:
    """It is as good as none."""
    assert within(threading.TIMEOUT_MAX * 2, lambda: 1) == 1


@pytest.fixture
def closed() -> Iterator[threading.Event]:
    """Opens when the test ends."""
    closed = threading.Event()
    yield closed
    closed.set()


def test_overdue_call_is_left_behind(closed: threading.Event) -> None:
    """The caller goes on while the call is stuck in a system call."""
    with pytest.raises(TimeoutError):
        within(TINY_S, closed.wait)


def test_overdue_call_ends_when_it_comes_to_python() -> None:
    """One that never blocks for long, as a read of dripping bytes, is stopped."""
    ended = threading.Event()

    def spin() -> None:
        pause = threading.Event()
        try:
            while True:
                pause.wait(0.001)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        within(TINY_S, spin)
    assert ended.wait(60)


def test_overdue_call_that_survives_is_not_heard(closed: threading.Event) -> None:
    """One that catches everything: its thread ends in silence, its result is dropped."""
    caught: list[str] = []
    ended = threading.Event()

    def stubborn() -> int:
        try:
            closed.wait()
        except BaseException as error:  # noqa: BLE001
            caught.append(type(error).__name__)
        ended.set()
        return 1

    with pytest.raises(TimeoutError):
        within(TINY_S, stubborn)
    closed.set()
    assert ended.wait(60)
    assert caught == ["_Overdue"]


def test_call_is_made_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the caller then, without a limit."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert within(TINY_S, threading.get_ident) == threading.get_ident()


def test_call_works_at_exit() -> None:
    """When the interpreter shuts down, and by then refuses threads from Python 3.12 on."""
    program = (
        "import atexit; from processes.comms.limit import within;"
        "atexit.register(lambda: within(60, lambda: print('made')))"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (child.stdout, child.stderr) == ("made\n", "")
