"""Arguments are bound in order, and exceptions are judged where they live."""

import urllib.error

import pytest

from processes.attempt import Call, bind, caught, is_retryable
from processes.spec import Injection

AS_ARGUMENT = Injection(positional=True, keyword=None)


def as_keyword(name: str) -> Injection:
    """The result becomes this keyword argument."""
    return Injection(positional=False, keyword=name)


def test_bind_without_injections_changes_nothing() -> None:
    """The task's own arguments, the very objects."""
    args: tuple[object, ...] = (1, [2])
    kwargs: dict[str, object] = {"x": 3}
    bound = bind(args, kwargs, ())
    assert bound[0] is args
    assert bound[1] is kwargs


def test_bind_appends_results_in_order() -> None:
    """Positional results follow the task's own arguments."""
    assert bind((1,), {}, [(AS_ARGUMENT, "b"), (AS_ARGUMENT, "c")]) == ((1, "b", "c"), {})


def test_bind_sets_keywords() -> None:
    """A result wins over the task's own argument of that name, and the last dependency wins over all."""
    injected = [(as_keyword("x"), "first"), (as_keyword("x"), "last"), (as_keyword("y"), 2)]
    assert bind((), {"x": "own", "z": 0}, injected) == ((), {"x": "last", "z": 0, "y": 2})


def test_bind_takes_a_result_both_ways() -> None:
    """One dependency may inject its result twice."""
    assert bind((), {}, [(Injection(positional=True, keyword="x"), 1)]) == ((1,), {"x": 1})


def test_bind_leaves_the_tasks_own_arguments_alone() -> None:
    """They are needed again for a retry."""
    kwargs: dict[str, object] = {"x": "own"}
    bind((), kwargs, [(as_keyword("x"), "injected")])
    assert kwargs == {"x": "own"}


RETRYABLE: list[tuple[BaseException, tuple[type[BaseException], ...] | None, bool]] = [
    (ConnectionError(), None, True),
    (ConnectionRefusedError(), None, True),
    (TimeoutError(), None, True),
    (OSError(), None, False),
    (ValueError(), None, False),
    (KeyboardInterrupt(), None, False),
    (ValueError(), (ValueError,), True),
    (UnicodeError(), (ValueError,), True),
    (ConnectionError(), (ValueError,), False),
    (ConnectionError(), (), False),
]


@pytest.mark.parametrize(("error", "retry_on", "expected"), RETRYABLE, ids=repr)
def test_is_retryable_asks_retry_on(
    error: BaseException, retry_on: tuple[type[BaseException], ...] | None, *, expected: bool
) -> None:
    """Instances count; by default those of the network's errors and time-outs."""
    assert is_retryable(error, retry_on) is expected


@pytest.mark.parametrize(
    ("reason", "expected"),
    [(ConnectionRefusedError(), True), (TimeoutError(), True), (OSError("no such host"), False), ("a text", False)],
    ids=repr,
)
def test_is_retryable_looks_into_a_url_error(reason: object, *, expected: bool) -> None:
    """It is how urllib tells of a refused connection; its `reason` decides."""
    assert is_retryable(urllib.error.URLError(reason), None) is expected  # type: ignore[arg-type]  # may be any object


def test_is_retryable_takes_a_url_error_as_it_is_where_the_user_chose() -> None:
    """A `retry_on` means what it says."""
    error = urllib.error.URLError(ConnectionRefusedError())
    assert not is_retryable(error, (ConnectionError,))
    assert is_retryable(error, (urllib.error.URLError,))


def test_caught_holds_exception_failure_and_verdict() -> None:
    """What an attempt that raised is made into."""
    error = ValueError("wrong")
    raised = caught(error, Call("a", len, (), {}, retry_on=(ValueError,)))
    assert raised.error is error
    assert raised.failure.exception_type == "ValueError"
    assert raised.failure.exception == "wrong"
    assert raised.retryable
