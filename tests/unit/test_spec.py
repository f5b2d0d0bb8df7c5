"""What the scheduler knows of a task is plain, and callables have readable names."""

import functools
from collections.abc import Callable

import pytest

from processes.spec import TaskSpec, name_of


@pytest.mark.parametrize(
    ("delays", "expected"),
    [((0.0,), [0.0, 0.0, 0.0]), ((1.0, 2.0), [1.0, 2.0, 2.0]), ((1.0, 2.0, 3.0, 4.0), [1.0, 2.0, 3.0])],
)
def test_task_spec_delays_are_one_for_all_or_one_each(delays: tuple[float, ...], expected: list[float]) -> None:
    """The first delay is that before attempt 2; the last one holds for all that follow."""
    spec = TaskSpec(retries=3, retry_delays=delays)
    assert [spec.delay_before(attempt) for attempt in (2, 3, 4)] == expected


class Nameless:
    """A callable without a name of its own."""

    def __call__(self) -> None:
        """Do nothing."""


class Misnamed(Nameless):
    """A callable whose name is no text."""

    def __init__(self) -> None:
        self.__name__ = 7


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (functools.reduce, "reduce"),
        (len, "len"),
        (Nameless, "Nameless"),
        (Nameless(), "Nameless"),
        (Misnamed(), "Misnamed"),
        (Nameless().__call__, "__call__"),
        (functools.partial(len), "partial(len)"),
        (functools.partial(functools.partial(len)), "partial(len)"),
        (functools.partial(Nameless()), "partial(Nameless)"),
        (lambda: None, "<lambda>"),
    ],
)
def test_name_of_any_callable_is_readable(func: Callable[..., object], name: str) -> None:
    """Its `__name__`, what a partial wraps, or else its type."""
    assert name_of(func) == name
