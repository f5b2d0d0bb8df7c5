"""What of the caller's surroundings a task sees: context variables, the decimal context, signals, shared objects."""

import contextvars
import decimal
import signal
from typing import Any

import pytest

from processes import Process, Task, TaskDependency
from support.pools import every_method, pool, run

#: No passing test comes near it.
AMPLE_S = 50.0

PRECISION = contextvars.ContextVar("PRECISION", default=28)


def precision() -> int:
    import decimal

    return decimal.getcontext().prec


def set_precision() -> None:
    import decimal

    decimal.getcontext().prec = 5


def set_signal_handler() -> str:
    import signal

    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, before)
    return "done"


def append_and_fail(numbers: list[int]) -> None:
    numbers.append(1)
    raise ConnectionError(f"{len(numbers)} in the list")


def append(numbers: list[int]) -> list[int]:
    numbers.append(1)
    return numbers


def tasks_with_and_without_timeout(func: Any) -> list[Task]:  # noqa: ANN401  any callable
    return [Task("plain", func), Task("timed", func, timeout=AMPLE_S)]


def results(process: Process, mode: str | None) -> dict[str, object]:
    return {name: entry.result for name, entry in process.run(mode, 1).entries.items()}


# ---- contexts -------------------------------------------------------------------------------------------------------


def test_context_variable_is_seen_in_this_process(local_mode: str | None) -> None:
    """A10: tasks have the caller's context, in threads and with a time-out too."""
    token = PRECISION.set(5)
    try:
        found = results(Process(tasks_with_and_without_timeout(PRECISION.get)), local_mode)
        assert Task("alone", PRECISION.get, timeout=AMPLE_S).run().result == 5
    finally:
        PRECISION.reset(token)
    assert found == {"plain": 5, "timed": 5}


def test_context_variable_is_that_of_the_run(local_mode: str | None) -> None:
    """A10: each run takes the context that it finds."""
    process = Process([Task("a", PRECISION.get)])
    assert results(process, local_mode) == {"a": 28}
    token = PRECISION.set(7)
    try:
        assert results(process, local_mode) == {"a": 7}
    finally:
        PRECISION.reset(token)


def test_context_is_a_copy_for_each_task(local_mode: str | None) -> None:
    """A10: what a task sets is seen by no other task, nor by the caller."""

    def change() -> int:
        PRECISION.set(3)
        return PRECISION.get()

    tasks = [
        Task("set", change),
        Task("next", PRECISION.get, dependencies=[TaskDependency("set")]),
    ]
    assert results(Process(tasks), local_mode) == {"set": 3, "next": 28}
    assert PRECISION.get() == 28


def test_decimal_context_is_the_callers_in_this_process_only(mode: str | None) -> None:
    """A10: copied where the task runs here; a child begins with Python's own."""
    with decimal.localcontext(prec=5):
        found = results(Process(tasks_with_and_without_timeout(precision)), mode)
    expected = 28 if mode == "processes" else 5
    assert found == {"plain": expected, "timed": expected}


# ---- signals --------------------------------------------------------------------------------------------------------


def test_task_may_handle_signals_where_it_has_the_main_thread(mode: str | None) -> None:
    """A10: in the calling thread without a time-out, and in a child always; a thread cannot."""
    before = signal.getsignal(signal.SIGUSR1)
    report = Process(tasks_with_and_without_timeout(set_signal_handler)).run(mode)
    can = {None: {"plain"}, "threads": set[str](), "processes": {"plain", "timed"}}[mode]
    assert set(report.successes) == can
    for entry in report.errored.values():
        assert entry.error is not None
        assert "main thread" in entry.error.exception
    assert signal.getsignal(signal.SIGUSR1) is before


# ---- values ---------------------------------------------------------------------------------------------------------


def test_retries_in_children_find_the_arguments_as_they_were(mode: str | None) -> None:
    """A12: what an attempt did to its arguments is gone with it in processes mode; elsewhere it stays."""
    numbers: list[int] = []
    entry = Process([Task("a", append_and_fail, args=(numbers,), retries=2)]).run(mode, 1).entries["a"]
    assert entry.error is not None
    is_isolated = mode == "processes"
    assert entry.error.exception == ("1 in the list" if is_isolated else "3 in the list")
    assert numbers == ([] if is_isolated else [1, 1, 1])


def test_result_in_children_is_not_changed_by_its_consumers(mode: str | None) -> None:
    """A12: report and consumers each have what the producer returned in processes mode; elsewhere they share it."""
    tasks = [
        Task("a", list),
        Task("b", append, dependencies=[TaskDependency("a", True)]),
        Task("c", append, dependencies=[TaskDependency("a", True), TaskDependency("b")]),
    ]
    report = Process(tasks).run(mode, 1)
    found = [entry.result for entry in report.entries.values()]
    assert found == ([[], [1], [1]] if mode == "processes" else [[1, 1]] * 3)


@every_method
def test_result_that_the_caller_changes_is_its_own(method: str) -> None:
    """A12: what the caller does to a result, or to arguments after the run, reaches no later run."""
    numbers = [0]
    process = Process([Task("a", append, args=(numbers,))])
    options = pool(method, 1)
    first = process.run(options).entries["a"].result
    first.append(2)
    assert numbers == [0]
    assert process.run(options).entries["a"].result == [0, 1]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_decimal_context_of_a_child_does_not_depend_on_its_parent(method: str) -> None:
    """A10: by start method."""
    with decimal.localcontext(prec=5):
        assert run([Task("a", precision)], pool(method)).entries["a"].result == 28


def test_decimal_context_of_a_fork_is_pythons_own() -> None:
    """A10: children start with an empty context, forks of the caller too."""
    with decimal.localcontext(prec=5):
        assert run([Task("a", precision)], pool("fork")).entries["a"].result == 28


def test_context_in_a_child_is_new_for_each_task() -> None:
    """A10: what a task sets in its context is not found by the next one in the same child."""
    tasks = [Task("set", set_precision), Task("next", precision, dependencies=[TaskDependency("set")])]
    report = run(tasks, pool("forkserver", 1))
    assert len({entry.worker_pid for entry in report.entries.values()}) == 1
    assert report.entries["next"].result == 28
