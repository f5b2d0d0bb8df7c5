"""Signals are taken over from nobody but Python itself, recorded, and given back."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from processes.exceptions import RunTerminated
from processes.interrupts import Interrupts
from support.gate import WAIT_S

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore(number: int, frame: object) -> None:
    pass


@contextmanager
def as_in_a_new_program(**handlers: object) -> Iterator[None]:
    """Python's own handlers, but for those given by the signal's name; they must be back at the end."""
    own = {"SIGINT": signal.default_int_handler, "SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, **handlers}
    before = {name: signal.signal(signal.Signals[name], handler) for name, handler in own.items()}  # type: ignore[arg-type]  # handlers
    try:
        yield
        assert {name: signal.getsignal(signal.Signals[name]) for name in own} == own
    finally:
        for name, handler in before.items():
            signal.signal(signal.Signals[name], handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_recorded_and_told(number: signal.Signals) -> None:
    """As the exception that it means, a new one each time; the first stays the one to speak of."""
    told: list[BaseException] = []
    with as_in_a_new_program(), Interrupts() as interrupts:
        assert interrupts.error() is None
        interrupts.on_signal = told.append
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGHUP)
    assert interrupts.first == number
    kind = KeyboardInterrupt if number == signal.SIGINT else RunTerminated
    assert [type(error) for error in told] == [kind, RunTerminated]
    assert type(interrupts.error()) is kind
    assert str(interrupts.error("stopped")) == "stopped"


@pytest.mark.parametrize("handler", [ignore, signal.SIG_IGN])
@pytest.mark.parametrize("number", SIGNALS)
def test_handler_of_the_program_stays(number: signal.Signals, handler: object) -> None:
    """Also where a signal is ignored, as under nohup, or in the background of a shell script."""
    with as_in_a_new_program(**{number.name: handler}), Interrupts() as interrupts:
        signal.raise_signal(number)
        assert signal.getsignal(number) == handler
    assert interrupts.first is None


def test_sigint_that_ends_the_program_stays() -> None:
    """Who gave up Python's handler wants to die of it."""
    with as_in_a_new_program(SIGINT=signal.SIG_DFL), Interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


def test_handler_that_was_installed_meanwhile_stays() -> None:
    """A task may install one in sequential mode, and means it."""
    with as_in_a_new_program(SIGTERM=signal.SIG_DFL):
        with Interrupts():
            signal.signal(signal.SIGTERM, ignore)
        assert signal.getsignal(signal.SIGTERM) is ignore
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_nothing_is_taken_over_in_another_thread() -> None:
    """Python would refuse it."""
    seen: list[object] = []

    def look() -> None:
        with Interrupts():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    with as_in_a_new_program():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]


def test_inner_interrupts_tell_the_outer() -> None:
    """Of a run in a task of another run: the inner one ends in order, and the outer knows by then."""
    told: list[str] = []
    with as_in_a_new_program(), Interrupts() as outer:
        outer.on_signal = lambda error: told.append("outer")
        with Interrupts() as inner:
            inner.on_signal = lambda error: told.append("inner")
            signal.raise_signal(signal.SIGTERM)
        assert (inner.first, outer.first) == (signal.SIGTERM, signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert told == ["inner", "outer"]


def test_handler_of_asyncio_is_taken_over() -> None:
    """It would ask a loop to cancel that does not turn; `asyncio.run` finds its own again and puts Python's back."""

    async def interrupt() -> int | None:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
        return interrupts.first

    with as_in_a_new_program():
        assert asyncio.run(interrupt()) == signal.SIGINT


# ---- patience --------------------------------------------------------------------------------------------------------


def test_second_ctrl_c_ends_the_wait() -> None:
    """At once: what was waited for is left to itself."""
    never = threading.Event()

    def wait() -> None:
        signal.pthread_kill(_main_thread(), signal.SIGINT)
        never.wait(WAIT_S)

    with as_in_a_new_program(), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        interrupts.patiently(wait)
        assert interrupts.is_hurried
    assert not never.is_set()
    never.set()


def test_second_ctrl_c_ends_a_wait_that_began_before_the_first() -> None:
    """What waits is interrupted, and given a moment elsewhere."""
    never = threading.Event()

    def wait() -> None:
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        never.wait(WAIT_S)

    with as_in_a_new_program(), Interrupts() as interrupts:
        interrupts.patiently(wait)
        assert interrupts.is_hurried
    assert not never.is_set()
    never.set()


def _main_thread() -> int:
    ident = threading.main_thread().ident
    assert ident is not None
    return ident


def test_wait_goes_on_for_a_single_signal() -> None:
    """And for any number that no person sends."""
    waited = []

    def wait() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        waited.append("to the end")

    with as_in_a_new_program(), Interrupts() as interrupts:
        interrupts.patiently(wait)
    assert (waited, interrupts.is_hurried) == (["to the end"], False)


def test_what_has_nothing_left_to_do_ends_for_the_hurried_too() -> None:
    """So that no thread of a run is left behind where none has to be."""
    waited = []
    with as_in_a_new_program(), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        interrupts.patiently(lambda: waited.append("to the end"))
    assert waited == ["to the end"]


# ---- waking up -------------------------------------------------------------------------------------------------------


def test_signal_before_a_wait_ends_it() -> None:
    """Also where its handler has run already; and it ends one wait, not all that follow."""
    with as_in_a_new_program(), Interrupts() as interrupts:
        assert interrupts.wakeup is not None
        interrupts.wakeup.wait()  # It is readable at first.
        signal.raise_signal(signal.SIGINT)
        interrupts.wakeup.wait()
        interrupts.wakeup.wait(0.001)


def test_first_wait_ends_at_once() -> None:
    """What came before was not written anywhere: whoever waits has to look."""
    with as_in_a_new_program(), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.wakeup is not None
        interrupts.wakeup.wait()


def test_poke_ends_a_wait_and_is_no_signal() -> None:
    """However often, and when it is too late."""
    with as_in_a_new_program(), Interrupts() as interrupts:
        wakeup = interrupts.wakeup
        assert wakeup is not None
        wakeup.wait()
        for _ in range(10_000):
            wakeup.poke()
        wakeup.wait()
    wakeup.poke()
    assert interrupts.first is None


def test_event_loop_around_a_run_gets_its_signals_afterwards() -> None:
    """They are its business, and it could not see to it meanwhile."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = asyncio.Event()

        def hear() -> None:
            seen.append("heard")
            told.set()

        loop.add_signal_handler(signal.SIGHUP, hear)
        with Interrupts() as interrupts:
            assert interrupts.wakeup is not None
            interrupts.wakeup.wait()
            signal.raise_signal(signal.SIGHUP)
            assert (interrupts.first, seen) == (None, [])
        async with asyncio.timeout(WAIT_S):
            await told.wait()
        loop.remove_signal_handler(signal.SIGHUP)

    with as_in_a_new_program():
        asyncio.run(main())
    assert seen == ["heard"]
    assert signal.set_wakeup_fd(-1) == -1
