"""
One attempt: bind the arguments, call the function, catch what it raises.

Runs in the child, and in the caller for sequential and thread mode.
"""

from __future__ import annotations

import functools
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processes.failure import Failure
    from processes.spec import Injection

#: Exceptions that a retry may cure, for tasks that do not say: the network's, and time-outs.
DEFAULT_RETRY_ON: tuple[type[BaseException], ...] = (ConnectionError, TimeoutError)


class Call(NamedTuple):
    """What a task calls, as the user gave it. Everything here is the user's."""

    name: str
    func: Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    #: How the results of dependencies enter the call, and the position of the task that each of them comes from.
    injections: tuple[Injection, ...] = ()
    sources: tuple[int, ...] = ()
    frame_filter: str | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    #: Seconds that one attempt may take, as the user wrote it.
    timeout: float | None = None
    #: Bytes that one attempt may use above what its worker held when it was ready.
    memory_limit: int | None = None
    #: What is not to be shown: see `redaction.redaction_of`.
    redact: bool | tuple[str, ...] = True
    #: Whether what it writes to standard output and error goes to its log.
    capture_output: bool = False
    #: Why there are no arguments: what was assigned to the task since it was made are none. It cannot be called.
    unready: Exception | None = None


class Profile(NamedTuple):
    """What a child has to know of a task beside what it calls."""

    frame_filter: str | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    redact: bool | tuple[str, ...] = True
    capture_output: bool = False


class Raised(NamedTuple):
    """An attempt that did not return: the exception, and what was captured of it."""

    error: BaseException
    failure: Failure
    retryable: bool


def bind(
    args: tuple[object, ...], kwargs: dict[str, object], injected: Sequence[tuple[Injection, object]]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """
    Arguments of the call: the task's own, then the results of its dependencies.

    Positional results follow the task's own arguments in the order of the dependencies; a keyword result replaces the
    task's own of that name, and the last dependency wins.
    """
    if not injected:
        return args, kwargs
    places, names = list(args), dict(kwargs)
    for (positional, keyword), value in injected:
        if positional:
            places.append(value)
        if keyword is not None:
            names[keyword] = value
    return tuple(places), names


def call(function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """
    Call a task's function, a coroutine function in an event loop of its own.

    Raises:
        TypeError: It is a generator function: nothing of it has run.
    """
    result = function(*args, **kwargs)
    if type(result) is CoroutineType:
        import asyncio

        return asyncio.run(result)
    if isinstance(result, GeneratorType | AsyncGeneratorType):
        from processes.failure import bounded_repr

        msg = (
            f"{bounded_repr(function)} gave a generator, of which nothing has run: a result has to be whole. "
            "Return a list."
        )
        raise TypeError(msg)
    return result


def is_coroutine_function(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    import inspect

    return any(inspect.iscoroutinefunction(part) for part in _what_runs(function))


def is_generator_function(function: object) -> bool:
    """Whether calling it gives a generator, asynchronous or not."""
    import inspect

    parts = _what_runs(function)
    return any(inspect.isgeneratorfunction(part) or inspect.isasyncgenfunction(part) for part in parts)


def _what_runs(function: object) -> tuple[object, object]:
    """What a partial wraps at last, and the method that makes a callable object callable."""
    while isinstance(function, functools.partial):
        function = function.func
    return function, type(function).__call__


def caught(error: BaseException, call: Call) -> Raised:
    """Capture an exception where it lives: its failure, and whether another attempt may cure it."""
    from processes.failure import capture  # The parent starts its first process before it has loaded these.
    from processes.redaction import redaction_of

    found = capture(error, call.frame_filter, redaction_of(call.redact))
    return Raised(error, found, is_retryable(error, call.retry_on))


def is_retryable(error: BaseException, retry_on: tuple[type[BaseException], ...] | None) -> bool:
    """
    Whether a task's `retry_on` covers an exception.

    With the default, a `urllib.error.URLError` counts as its `reason`: it is how urllib reports a refused connection.
    """
    kinds = DEFAULT_RETRY_ON if retry_on is None else retry_on
    if isinstance(error, kinds):
        return True
    if retry_on is None and type(error).__module__ == "urllib.error":
        return isinstance(getattr(error, "reason", None), kinds)
    return False
