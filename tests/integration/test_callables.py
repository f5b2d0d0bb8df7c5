"""Whatever can be called can be a task, in each mode: it gets its arguments, and its result is passed on."""

import asyncio
import functools
import logging
import math
import operator
import threading
from collections import Counter, namedtuple
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import Process, Task, TaskDependency
from support.findable import cached, dispatching
from support.gate import Gate, pass_gate


def add(left: int, right: int) -> int:
    return left + right


def doubling(function: Callable[[int, int], int]) -> Callable[[int, int], int]:
    @functools.wraps(function)
    def doubled(left: int, right: int) -> int:
        return 2 * function(left, right)

    return doubled


@doubling
def decorated(left: int, right: int) -> int:
    return left + right


async def add_async(left: int, right: int) -> int:
    await asyncio.sleep(0)
    return left + right


@functools.wraps(add_async)
def not_marked_async(left: int, right: int) -> Coroutine[Any, Any, int]:
    """Gives a coroutine, and does not say so."""
    return add_async(left, right)


Pair = namedtuple("Pair", "left right")  # noqa: PYI024  what is called is the point


class Adder:
    def __init__(self, left: int, right: int = 0) -> None:
        self.left = left
        self.right = right

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # what it holds may change

    def __call__(self, right: int) -> int:
        return self.left + right

    def add(self, right: int) -> int:
        return self.left + right

    async def add_async(self, right: int) -> int:
        await asyncio.sleep(0)
        return self.left + right

    @staticmethod
    def static(left: int, right: int) -> int:
        return left + right

    @staticmethod
    async def static_async(left: int, right: int) -> int:
        return left + right

    @classmethod
    def of_class(cls, left: int, right: int) -> str:
        return f"{cls.__name__} {left + right}"

    @classmethod
    async def of_class_async(cls, left: int, right: int) -> str:
        return f"{cls.__name__} {left + right}"


class AsyncAdder(Adder):
    async def __call__(self, right: int) -> int:  # type: ignore[override]  # the point
        return self.left + right


class WithMetaclass(type):
    def __call__(cls, left: int, right: int) -> int:
        return left + right


class Made(metaclass=WithMetaclass):
    pass


def make_closure(left: int) -> Callable[[int], int]:
    return lambda right: left + right


def make_async_closure(left: int) -> Callable[[int], Coroutine[Any, Any, int]]:
    async def closure(right: int) -> int:
        return left + right

    return closure


#: What is called, its own arguments, and the result; 2 comes from another task.
CALLABLES: dict[str, tuple[Callable[..., object], tuple[object, ...], object]] = {
    "function": (add, (1,), 3),
    "lambda": (lambda left, right: left + right, (1,), 3),
    "closure": (make_closure(1), (), 3),
    "partial": (functools.partial(add, 1), (), 3),
    "partial-of-partial": (functools.partial(functools.partial(add), 1), (), 3),
    "partial-of-method": (functools.partial(Adder.add, Adder(1)), (), 3),
    "partial-of-class": (functools.partial(Adder, 1), (), Adder(1, 2)),
    "cached": (cached, (1,), 3),
    "dispatching": (dispatching, (1,), 3),
    "decorated": (decorated, (1,), 6),
    "bound": (Adder(1).add, (), 3),
    "static": (Adder.static, (1,), 3),
    "of-class": (Adder.of_class, (1,), "Adder 3"),
    "unbound": (Adder.add, (Adder(1),), 3),
    "object": (Adder(1), (), 3),
    "class": (Adder, (1,), Adder(1, 2)),
    "builtin-class": (range, (1,), range(1, 2)),
    "exception-class": (str, (), "2"),
    "named-tuple": (Pair, (1,), Pair(1, 2)),
    "metaclass": (Made, (1,), 3),
    "generic": (Counter[int], (), Counter()),
    "builtin": (divmod, (9,), (4, 1)),
    "c-function": (math.pow, (3,), 9.0),
    "operator": (operator.add, (1,), 3),
    "item-getter": (operator.itemgetter(0), (), 2),
    "method-caller": (operator.methodcaller("bit_length"), (), 2),
    "builtin-method": ([1, 2, 3].index, (), 1),
    "method-descriptor": (int.__add__, (1,), 3),
    "method-wrapper": ((1).__add__, (), 3),
    "async": (add_async, (1,), 3),
    "async-lambda": (lambda left, right: add_async(left, right), (1,), 3),  # noqa: PLW0108  the point
    "async-closure": (make_async_closure(1), (), 3),
    "async-partial": (functools.partial(functools.partial(add_async), 1), (), 3),
    "async-unmarked": (not_marked_async, (1,), 3),
    "async-bound": (Adder(1).add_async, (), 3),
    "async-static": (Adder.static_async, (1,), 3),
    "async-of-class": (Adder.of_class_async, (1,), "Adder 3"),
    "async-object": (AsyncAdder(1), (), 3),
    "async-builtin": (asyncio.sleep, (0,), 2),
}


@pytest.mark.parametrize("timeout", [None, 50.0], ids=["", "timeout"])
def test_whatever_can_be_called_is_called(mode: str | None, timeout: float | None) -> None:
    """With its arguments and a result of another task, also where it runs in a thread for its time-out."""
    tasks = [Task("two", int, args=("2",)), Task("list", list, args=([2],)), Task("empty", list)]
    for name, (function, args, _) in CALLABLES.items():
        source = {"item-getter": "list", "generic": "empty"}.get(name, "two")
        dependencies = [TaskDependency(source, use_result_as_additional_args=True)]
        tasks.append(Task(name, function, args=args, dependencies=dependencies, timeout=timeout))
    process = Process(tasks)
    process.check(mode)
    report = process.run(mode)
    assert {name: entry.error and entry.error.traceback_str for name, entry in report.errored.items()} == {}
    assert {name: report.entries[name].result for name in CALLABLES} == {
        name: result for name, (_, _, result) in CALLABLES.items()
    }


# ---- coroutines, further ---------------------------------------------------------------------------------------------


async def gather() -> list[int]:
    return list(await asyncio.gather(*(add_async(n, n) for n in range(3))))


async def leave() -> None:
    raise SystemExit(3)


async def be_cancelled() -> None:
    raise asyncio.CancelledError("by itself")


async def leave_task_behind() -> str:
    asyncio.get_running_loop().create_task(asyncio.sleep(600))
    return "done"


async def log(word: str) -> None:
    await asyncio.sleep(0)
    logging.getLogger("etl").warning("said %s", word)


async def hang(address: bytes) -> None:
    await asyncio.to_thread(pass_gate, address)


def test_coroutine_may_use_its_loop(mode: str | None) -> None:
    """It has tasks of its own; one that it leaves behind is cancelled with the loop."""
    report = Process([Task("gather", gather), Task("leave", leave_task_behind)]).run(mode)
    assert {name: entry.result for name, entry in report.entries.items()} == {"gather": [0, 2, 4], "leave": "done"}


@pytest.mark.parametrize(
    ("function", "kind"), [(leave, "SystemExit"), (be_cancelled, "asyncio.exceptions.CancelledError")]
)
def test_coroutine_that_raises_what_ends_loops_fails_alone(
    mode: str | None, function: Callable[..., object], kind: str
) -> None:
    """It is the task's failure, and the run goes on."""
    report = Process([Task("bad", function), Task("next", gather)]).run(mode)
    error = report.entries["bad"].error
    assert error is not None
    assert error.exception_type == kind
    assert list(report.successes) == ["next"]


def test_log_of_a_coroutine_is_its_tasks(mode: str | None, tmp_path: Path) -> None:
    """As of any other function."""
    with Process([Task(word, log, tmp_path / f"{word}.log", args=(word,)) for word in ("one", "two")]) as process:
        process.run(mode)
    for word in ("one", "two"):
        lines = (tmp_path / f"{word}.log").read_text(encoding="utf-8").splitlines()
        assert [line.rpartition(" - ")[2] for line in lines] == [
            f"Starting {word}.",
            f"said {word}",
            f"Finished {word}.",
        ]


def test_coroutine_that_hangs_is_timed_out(mode: str | None, gate: Gate) -> None:
    """Killed where it has a child to itself, left behind where it has not."""
    report = Process([Task("hang", hang, args=(gate.address,), timeout=0.05), Task("next", gather)]).run(mode)
    error = report.entries["hang"].error
    assert error is not None
    assert error.exception_type == "processes.TaskTimeoutError"
    assert list(report.successes) == ["next"]
    gate.close()


# ---- generators ------------------------------------------------------------------------------------------------------


def count(up_to: int) -> Iterator[int]:
    yield from range(up_to)


class Counts:
    def __call__(self) -> Iterator[int]:
        yield 1

    def count(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function",
    [functools.partial(count, 2), Counts(), Counts().count, lambda: (n for n in range(3))],
    ids=["partial", "object", "method", "lambda"],
)
def test_generator_is_refused_wherever_it_comes_from(mode: str | None, function: Callable[..., object]) -> None:
    """The error says what to do; what consumes it inside of the task is fine."""
    report = Process(
        [Task("bad", function), Task("list", lambda: list(count(3))), Task("sum", sum, args=([1, 2],))]
    ).run(mode)
    error = report.entries["bad"].error
    assert error is not None
    assert "Return a list" in error.exception
    assert {name: entry.result for name, entry in report.successes.items()} == {"list": [0, 1, 2], "sum": 3}


def test_iterators_that_are_no_generators_are_results(local_mode: str | None) -> None:
    """They are objects like others; in processes mode they have to pickle."""
    report = Process([Task("iter", iter, args=([1, 2],)), Task("map", map, args=(str, (1, 2)))]).run(local_mode)
    assert [list(entry.result) for entry in report.entries.values()] == [[1, 2], ["1", "2"]]


def test_task_that_runs_in_the_callers_thread_may_run_a_loop(tmp_path: Path) -> None:
    """In sequential mode, before and after: no loop is left set."""
    seen: list[object] = []

    def look() -> None:
        seen.append((threading.current_thread() is threading.main_thread(), asyncio._get_running_loop()))

    Process([Task("a", look), Task("b", gather), Task("c", look)]).run()
    assert seen == [(True, None)] * 2
