"""What scheduler and children know of a task: its edges, retries, and how results are passed on. Pure: numbers only."""

from __future__ import annotations

from typing import NamedTuple

#: A further attempt follows at once.
NO_DELAYS = (0.0,)


class TaskSpec(NamedTuple):
    """One task of a run, without anything of the user's: name, function and arguments stay with its call."""

    #: Positions, in the run's order, of the tasks it waits for; a task counts once however often it is named.
    dependencies: tuple[int, ...] = ()
    #: Further attempts after the first.
    retries: int = 0
    #: Seconds to wait before each further attempt; one for all, or one each.
    retry_delays: tuple[float, ...] = NO_DELAYS
    #: Whether the report keeps the result; if not, it is freed when its last consumer has ended.
    keep_result: bool = True

    def delay_before(self, attempt: int) -> float:
        """Seconds to wait before attempt number `attempt`, which is 2 or more."""
        return self.retry_delays[min(attempt - 2, len(self.retry_delays) - 1)]


#: Of a task that waits for nothing and asks for nothing: most tasks of a large batch share it.
PLAIN = TaskSpec()


class Injection(NamedTuple):
    """How a dependency's result enters the call."""

    #: Appended to the positional arguments.
    positional: bool
    #: Set as this keyword argument, or None.
    keyword: str | None


def name_of(func: object) -> str:
    """A callable's name, also where it has none of its own: a partial shows what it wraps."""
    name = getattr(func, "__name__", None)
    if isinstance(name, str):
        return name
    inner = getattr(func, "func", None)
    if inner is not None and inner is not func:
        return f"partial({name_of(inner)})"
    return type(func).__name__


# Checks of what the user passes. They take `object`: a declared type is a promise that a program may not have kept.


def require(name: str, value: object, *kinds: type) -> None:
    """Raise a TypeError where a value is of none of the types."""
    if not isinstance(value, kinds):
        msg = f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}. Got {type(value)}"
        raise TypeError(msg)


def require_callable(name: str, value: object) -> None:
    """Raise a TypeError where a value cannot be called."""
    if not callable(value):
        msg = f"{name} must be callable. Got {type(value)}"
        raise TypeError(msg)


def require_int(name: str, value: object) -> None:
    """Raise a TypeError where a value is neither an int nor None; a bool is no number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        msg = f"{name} must be an int or None, got {value!r}"
        raise TypeError(msg)
