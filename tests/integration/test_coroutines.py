"""Functions that return before they have run: coroutines and generators."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator

import pytest

from processes import Process, Task, TaskDependency

# An abandoned coroutine warns when it is collected, wherever that is: it must not make another test fail.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


async def double(number: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return 2 * number


async def fail_late() -> None:
    import asyncio

    await asyncio.sleep(0)
    raise ValueError("too late")


class Doubler:
    async def __call__(self, number: int) -> int:
        return 2 * number


def count() -> Iterator[int]:
    yield 1


async def count_slowly() -> AsyncIterator[int]:
    yield 1


def test_coroutine_function_runs_in_a_loop_of_its_own(mode: str | None) -> None:
    """A14: its result is what it returns, also behind a partial or of a callable object; it passes on as any other."""
    tasks = [
        Task("plain", double, args=(1,)),
        Task("partial", functools.partial(double, 2), timeout=50.0),
        Task("object", Doubler(), args=(3,)),
        Task("next", double, dependencies=[TaskDependency("plain", True)]),
    ]
    report = Process(tasks).run(mode)
    assert {name: entry.result for name, entry in report.entries.items()} == {
        "plain": 2,
        "partial": 4,
        "object": 6,
        "next": 4,
    }


def test_coroutine_function_that_fails_is_retried_and_told(mode: str | None) -> None:
    """A14: what it raises is the task's failure, with its own frame."""
    entry = Process([Task("a", fail_late, retries=1, retry_on=(ValueError,))]).run(mode).entries["a"]
    assert entry.error is not None
    assert (entry.attempts, entry.error.exception, entry.error.exception_type) == (2, "too late", "ValueError")
    assert "in fail_late" in entry.error.traceback_str


@pytest.mark.parametrize("function", [count, count_slowly])
def test_generator_function_is_refused(mode: str | None, function: object) -> None:
    """A14: the task fails, and the error says that it is a generator and what to return."""
    assert callable(function)
    entry = Process([Task("a", function)]).run(mode).entries["a"]
    assert entry.error is not None
    assert "generator" in entry.error.exception
    assert "pickle" not in entry.error.exception


def test_function_that_runs_a_loop_itself_is_left_alone(mode: str | None) -> None:
    """A14: `asyncio.run` inside of a task works as anywhere."""
    assert Process([Task("a", lambda: asyncio.run(double(4)))]).run(mode).entries["a"].result == 8
