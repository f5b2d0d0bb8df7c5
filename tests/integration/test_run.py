"""Process.run in every mode: order, results, failures, retries, limits."""

import functools
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from processes import (
    Process,
    ProcessExecutionReport,
    ProcessPool,
    Task,
    TaskDependency,
    TaskReportEntry,
    TaskStatus,
    TaskTimeoutError,
)
from processes.attempt import Call
from processes.backends.threads import ThreadsBackend
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    StartAttempt,
    TroubleSeen,
)
from processes.usage import usable_cpus
from support.gate import Gate, pass_gate
from support.logs import told

#: No passing test comes near it.
AMPLE_S = 50.0

#: Passes at once, whatever the machine is doing.
TINY_S = 0.05


# ---- what the tasks do: they also run in children, so each needs nothing of this module -----------------------------


def note(path: str, word: str = "ran") -> str:
    """Leave a trace that outlives the child."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")
    return word


def take(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


def fail(*args: object) -> None:
    raise ValueError("no such luck")


def fail_first(path: str, times: int, error: type[BaseException] = ConnectionError) -> int:
    """Fail so many times, then return which attempt this was."""
    with open(path, "a+", encoding="utf-8") as file:
        file.write("attempt\n")
        file.seek(0)
        made = len(file.readlines())
    if made <= times:
        raise error(f"attempt {made} went wrong")
    return made


def raise_it(error: BaseException) -> None:
    raise error


def time_out_itself() -> None:
    raise TimeoutError("db said no")


def refuse_connection() -> None:
    import urllib.error

    raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))


def call_library() -> object:
    import json

    mine = "no json"
    return json.loads(mine)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Flaky(Exception):
    pass


class Flakier(Flaky):
    pass


class Adder:
    """Callable, without a __name__."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __call__(self, second: int) -> int:
        return self.first + second


def raise_unprintable() -> None:
    raise Unprintable


def noted(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def statuses(report: ProcessExecutionReport) -> dict[str, TaskStatus]:
    return {name: entry.status for name, entry in report.entries.items()}


def after(*names: str) -> list[TaskDependency]:
    return [TaskDependency(name) for name in names]


def is_deadline_of(entry: TaskReportEntry, deadline: float) -> bool:
    return entry.error is not None and (
        entry.error.exception == f"Task '{entry.name}' was stopped: the run's deadline of {deadline}s passed"
    )


# ---- order and results ----------------------------------------------------------------------------------------------


def test_run_of_nothing_gives_an_empty_report(mode: str | None) -> None:
    """A process without tasks runs, and reports none."""
    assert Process([], "none").run(mode) == ProcessExecutionReport({}, "none")


def test_run_calls_with_own_arguments_and_reports_the_result(mode: str | None) -> None:
    """A task is called with its arguments, once; the entry says what it returned."""
    entry = Process([Task("a", take, None, (1, 2), {"x": 3})]).run(mode).entries["a"]
    assert entry.status is TaskStatus.SUCCESS
    assert entry.result == ((1, 2), {"x": 3})
    assert (entry.attempts, entry.error, entry.why) == (1, None, "")
    assert entry.elapsed_seconds >= 0


def test_run_passes_results_by_position_in_the_order_of_the_dependencies(mode: str | None) -> None:
    """Positional results follow the task's own arguments, in the order of its dependencies."""
    tasks = [
        Task("a", len, args=("1",)),
        Task("b", len, args=("22",)),
        Task("c", take, args=("own",), dependencies=[TaskDependency("b", True), TaskDependency("a", True)]),
    ]
    assert Process(tasks).run(mode).entries["c"].result == (("own", 2, 1), {})
    assert tasks[2].args == ("own",)


def test_run_passes_results_by_keyword_over_the_own_one(mode: str | None) -> None:
    """A keyword result replaces the task's own keyword argument, whose dict is left alone."""
    own = {"x": "own", "y": "own"}
    consumer = Task("b", take, kwargs=own, dependencies=[TaskDependency("a", False, True, "x")])
    assert Process([Task("a", len, args=("1",)), consumer]).run(mode).entries["b"].result == ((), {"x": 1, "y": "own"})
    assert own == {"x": "own", "y": "own"}


def test_run_passes_a_result_both_ways(mode: str | None) -> None:
    """With both flags, a result comes by position and by keyword."""
    tasks = [Task("a", len, args=("1",)), Task("b", take, dependencies=[TaskDependency("a", True, True, "x")])]
    assert Process(tasks).run(mode).entries["b"].result == ((1,), {"x": 1})


def test_run_lets_the_last_dependency_win_a_keyword(mode: str | None) -> None:
    """Two dependencies that set the same keyword: the last one counts."""
    wants = [TaskDependency("a", False, True, "x"), TaskDependency("b", False, True, "x")]
    tasks = [
        Task("c", take, dependencies=wants),
        Task("b", len, args=("22",)),
        Task("a", len, args=("1",)),
    ]
    assert Process(tasks).run(mode).entries["c"].result == ((), {"x": 2})


def test_run_orders_by_a_dependency_without_flags_and_passes_nothing(mode: str | None, tmp_path: Path) -> None:
    """A dependency without flags only makes its task wait."""
    path = tmp_path / "order"
    tasks = [
        Task("c", note, args=(str(path), "c"), dependencies=after("b")),
        Task("b", note, args=(str(path), "b"), dependencies=after("a")),
        Task("a", note, args=(str(path), "a")),
        Task("d", take, dependencies=after("c")),
    ]
    assert Process(tasks).run(mode).entries["d"].result == ((), {})
    assert noted(path) == ["a", "b", "c"]


def test_run_passes_nothing_for_a_keyword_name_without_its_flag(mode: str | None) -> None:
    """F5: the name alone warns, and injects nothing."""
    with pytest.warns(UserWarning, match="has no effect"):
        wanted = TaskDependency("a", additional_kwarg_name="x")
    report = Process([Task("a", len, args=("1",)), Task("b", take, dependencies=[wanted])]).run(mode)
    assert report.entries["b"].result == ((), {})


def test_run_passes_the_very_object_in_this_process(local_mode: str | None) -> None:
    """Where memory is shared, a consumer gets what its producer returned, and so does the report."""
    made = object()
    consumer = Task("b", lambda value: value is made, dependencies=[TaskDependency("a", True)])
    report = Process([Task("a", lambda: made), consumer]).run(local_mode)
    assert report.entries["b"].result is True
    assert report.entries["a"].result is made


def test_run_isolates_children_from_the_caller() -> None:
    """In processes mode, what a task does to the caller's objects stays in the child."""
    seen: list[int] = []

    def see() -> int:
        seen.append(1)
        return len(seen)

    assert Process([Task("a", see)]).run("processes").entries["a"].result == 1
    assert seen == []


def test_run_sequentially_uses_the_calling_thread(mode: str | None) -> None:
    """Only sequential mode runs tasks in the thread that called; only processes mode in another process."""
    report = Process([Task("a", lambda: (os.getpid(), threading.get_ident()))]).run(mode)
    pid, thread = report.entries["a"].result
    assert (pid == os.getpid()) is (mode != "processes")
    if mode != "processes":
        assert (thread == threading.get_ident()) is (mode is None)


def test_run_sequentially_follows_the_order_of_the_process() -> None:
    """Sequential mode runs tasks in the order of `process.tasks`, ten or more of them too (A11)."""
    ran: list[tuple[str, int]] = []
    tasks = [
        Task(name, lambda name=name: ran.append((name, threading.get_ident())), dependencies=after(*wanted))
        for name, wanted in [("d", "bc"), ("b", "a"), ("c", "a"), ("a", ""), *((str(n), "") for n in range(10))]
    ]
    process = Process(tasks)
    process.run()
    here = threading.get_ident()
    assert ran == [(task.name, here) for task in process.tasks]
    assert [name for name, _ in ran] == ["a", *map(str, range(10)), "b", "c", "d"]


@pytest.mark.parametrize("parallel", ["fibres", "", "True", 0, 1, [], ProcessPool])
def test_run_names_the_modes_it_knows(parallel: Any) -> None:  # noqa: ANN401  a wrong type is the point
    """0.1, 9.1: an unknown mode, a value that is merely true or false too, is a ValueError that lists them."""
    ran: list[int] = []
    with pytest.raises(ValueError, match=r"sequential.*'processes', 'threads', or a ProcessPool, got ") as caught:
        Process([Task("a", ran.append, args=(1,))]).run(parallel)
    assert str(caught.value).endswith(repr(parallel))
    assert ran == []


@pytest.mark.parametrize(
    ("parallel", "is_child"), [(True, True), (False, False), (None, False), (ProcessPool(1), True)]
)
def test_run_takes_booleans_and_a_pool_for_modes(parallel: bool | ProcessPool | None, is_child: bool) -> None:
    """True and a ProcessPool run tasks in children, None and False here."""
    pid = Process([Task("a", os.getpid)]).run(parallel).entries["a"].result
    assert (pid != os.getpid()) is is_child


def test_run_again_is_fresh(mode: str | None, tmp_path: Path) -> None:
    """A1: every run runs every task, and reports what happened then."""
    path = tmp_path / "attempts"
    process = Process(
        [
            Task("a", fail_first, args=(str(path), 1)),
            Task("b", note, args=(str(tmp_path / "b"),), dependencies=after("a")),
        ]
    )
    first, second, third = (process.run(mode) for _ in range(3))
    assert statuses(first) == {"a": TaskStatus.ERRORED, "b": TaskStatus.SKIPPED}
    assert statuses(second) == statuses(third) == {"a": TaskStatus.SUCCESS, "b": TaskStatus.SUCCESS}
    assert (second.entries["a"].result, third.entries["a"].result) == (2, 3)
    assert noted(tmp_path / "b") == ["ran", "ran"]
    assert statuses(first) == {"a": TaskStatus.ERRORED, "b": TaskStatus.SKIPPED}


def test_run_keeps_results_in_the_runner(mode: str | None) -> None:
    """`process.runner.results` says the same as the report."""
    process = Process([Task("a", len, args=("1",)), Task("b", fail), Task("c", len, dependencies=after("b"))])
    report = process.run(mode)
    results = process.runner.results
    assert {name: outcome.status for name, outcome in results.items()} == statuses(report)
    assert (results["a"].result, results["a"].exception, results["a"].worked) == (1, None, True)
    assert (results["b"].result, results["b"].error_data) == (None, report.entries["b"].error)
    assert "no such luck" in str(results["b"].exception)
    assert process.runner.submitted_tasks == {"a", "b"}


# ---- failures -------------------------------------------------------------------------------------------------------


def test_run_skips_what_depends_on_a_failure_and_nothing_else(mode: str | None, tmp_path: Path) -> None:
    """A failure skips its dependants, transitively; they say whose failure it was and are never called."""
    path = str(tmp_path / "ran")
    tasks = [
        Task("bad", fail),
        Task("child", note, args=(path, "child"), dependencies=after("fine", "bad")),
        Task("grandchild", note, args=(path, "grandchild"), dependencies=after("child")),
        Task("fine", note, args=(path, "fine")),
        Task("last", note, args=(path, "last"), dependencies=after("fine")),
    ]
    report = Process(tasks).run(mode)
    assert set(report.errored) == {"bad"}
    assert set(report.skipped) == {"child", "grandchild"}
    assert set(report.successes) == {"fine", "last"}
    assert noted(tmp_path / "ran") == ["fine", "last"]
    for entry in report.skipped.values():
        assert entry.why == "it depends on 'bad', which failed"
        assert (entry.attempts, entry.elapsed_seconds, entry.result, entry.error) == (0, 0.0, None, None)
        assert (entry.started_at, entry.ended_at, entry.usage, entry.attempt_log) == (None, None, None, ())
    error = report.entries["bad"].error
    assert error is not None
    assert error.downstream_impact == ["child", "grandchild"]


def test_run_says_all_that_depends_on_a_failure(mode: str | None) -> None:
    """12.5: breadth first, each once, whatever else became of them."""
    tasks = [
        Task("first", fail),
        Task("second", fail),
        Task("both", len, dependencies=after("first", "second")),
        Task("below", len, dependencies=after("both")),
        Task("beside", len, dependencies=after("first")),
        Task("far", len, dependencies=after("beside")),
        Task("fails-too", fail),
    ]
    report = Process(tasks).run(mode)
    impact = {name: entry.error.downstream_impact for name, entry in report.errored.items() if entry.error}
    assert impact == {"first": ["both", "beside", "below", "far"], "second": ["both", "below"], "fails-too": []}
    assert {entry.why for entry in report.skipped.values()} <= {
        "it depends on 'first', which failed",
        "it depends on 'second', which failed",
    }


def test_run_says_what_failed(mode: str | None) -> None:
    """An errored entry has the exception's text and type, the function, the arguments and the traceback."""
    entry = Process([Task("a", fail, args=(1,))]).run(mode).entries["a"]
    assert entry.error is not None
    assert (entry.status, entry.result, entry.attempts) == (TaskStatus.ERRORED, None, 1)
    assert (entry.error.task_name, entry.error.function, entry.error.args) == ("a", "fail", (1,))
    assert (entry.error.exception, entry.error.exception_type) == ("no such luck", "ValueError")
    assert entry.error.traceback_str.startswith("Traceback (most recent call last):\n")
    assert entry.error.traceback_str.rstrip().endswith("ValueError: no such luck")
    assert entry.error.traced_vars == {"args": "(1,)"}
    assert Path(__file__).name in entry.error.traced_vars_location


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt("mine"), GeneratorExit(), BaseException("base")])
def test_run_takes_any_exception_for_the_failure_of_its_task(mode: str | None, error: BaseException) -> None:
    """A5: what is no Exception fails its task as well, and nothing else."""
    report = Process([Task("a", raise_it, args=(error,)), Task("b", len, args=("1",))]).run(mode)
    assert statuses(report) == {"a": TaskStatus.ERRORED, "b": TaskStatus.SUCCESS}
    failure = report.entries["a"].error
    assert failure is not None
    assert (failure.exception_type, failure.exception) == (type(error).__name__, str(error))


@pytest.mark.parametrize(
    ("func", "name", "result"),
    [
        (functools.partial(int, "11"), "partial(int)", 11),
        (functools.partial(functools.partial(int, "11"), base=2), "partial(int)", 3),
        (functools.partial(Adder(1), 2), "partial(Adder)", 3),
    ],
)
def test_run_takes_callables_without_a_name(
    mode: str | None, func: Callable[..., object], name: str, result: object
) -> None:
    """A6: partials and callable objects run, and the report has a name for them."""
    entry = Process([Task("a", func)]).run(mode).entries["a"]
    assert (entry.function, entry.result) == (name, result)


def test_run_names_a_callable_object_by_its_class(mode: str | None) -> None:
    """A6: a callable object that fails is reported under its class's name."""
    entry = Process([Task("a", Adder(1), args=("x",))]).run(mode).entries["a"]
    assert entry.error is not None
    assert entry.function == entry.error.function == "Adder"
    assert entry.error.exception_type == "TypeError"


def test_run_survives_an_exception_without_a_text(mode: str | None) -> None:
    """A7: an exception whose __str__ raises fails its own task only, and is named by its type."""
    report = Process([Task("a", raise_unprintable, retries=1), Task("b", len, args=("1",))]).run(mode)
    assert statuses(report) == {"a": TaskStatus.ERRORED, "b": TaskStatus.SUCCESS}
    failure = report.entries["a"].error
    assert failure is not None
    assert failure.exception_type.endswith("Unprintable")
    assert "ZeroDivisionError" in failure.exception
    assert isinstance(report.to_json(), str)


def test_run_lets_go_of_the_locals_of_a_failure(local_mode: str | None) -> None:
    """A13: a failed task's locals are gone, though report and runner are still there."""

    class Big:
        pass

    def hold_and_fail() -> None:
        big = Big()
        held.append(weakref.ref(big))
        raise ValueError

    held: list[weakref.ref[Big]] = []
    process = Process([Task("a", hold_and_fail)])
    report = process.run(local_mode)
    assert report.errored
    assert held[0]() is None


def test_run_shows_the_frame_that_is_asked_for(mode: str | None) -> None:
    """12.1: the innermost frame of the user's own, or of a file whose name holds `traced_vars_frame_filter`."""
    tasks = [
        Task("own", call_library),
        Task("filtered", call_library, traced_vars_frame_filter="json"),
        Task("no-match", call_library, traced_vars_frame_filter="no such file"),
    ]
    errors = {name: entry.error for name, entry in Process(tasks).run(mode).errored.items()}
    own, filtered, no_match = (errors[task.name] for task in tasks)
    assert own is not None
    assert filtered is not None
    assert no_match is not None
    assert own.traced_vars["mine"] == "'no json'"
    assert Path(__file__).name in own.traced_vars_location
    assert filtered.traced_vars["s"] == "'no json'"
    assert "json/decoder.py:" in filtered.traced_vars_location
    assert no_match.traced_vars_location == filtered.traced_vars_location


def test_run_names_a_function_as_it_is_called_when_it_runs(mode: str | None) -> None:
    """19.11: the name is read late."""

    def function() -> None:
        raise ValueError

    tasks = [Task("good", lambda: 1), Task("bad", function)]
    function.__name__ = tasks[0].func.__name__ = "renamed"
    report = Process(tasks).run(mode)
    assert report.entries["bad"].error is not None
    assert [entry.function for entry in report.entries.values()] == ["renamed", "renamed"]
    assert report.entries["bad"].error.function == "renamed"


def test_run_calls_each_function_once(concurrent_mode: str, tmp_path: Path) -> None:
    """9.4: in a graph with many ways through it, each task runs one time, after all that it waits for."""
    path = tmp_path / "ran"
    layers = 4
    tasks = [
        Task(
            f"{layer}-{n}", note, None, (str(path), f"{layer}-{n}"), {}, after(*(f"{layer - 1}-{m}" for m in range(5)))
        )
        if layer
        else Task(f"{layer}-{n}", note, None, (str(path), f"{layer}-{n}"))
        for layer in reversed(range(layers))
        for n in range(5)
    ]
    report = Process(tasks).run(concurrent_mode, 4)
    assert len(report.successes) == len(tasks)
    ran = noted(path)
    assert sorted(ran) == sorted(task.name for task in tasks)
    assert [name[0] for name in ran] == sorted(name[0] for name in ran)


def test_run_with_one_worker_starts_ready_tasks_in_order(concurrent_mode: str, tmp_path: Path) -> None:
    """9.4: each task that is ready has its turn as in `process.tasks`."""
    path = tmp_path / "ran"
    process = Process(
        [
            Task(name, note, args=(str(path), name), dependencies=after(*wanted))
            for name, wanted in [("d", "bc"), ("b", "a"), ("c", "a"), ("a", ""), ("e", "")]
        ]
    )
    process.run(concurrent_mode, 1)
    assert noted(path) == [task.name for task in process.tasks] == ["a", "e", "b", "c", "d"]


def test_run_reads_attributes_that_were_assigned_since(mode: str | None) -> None:
    """2.6: a task is run as it is at that moment, in every run."""
    task = Task("a", len, args=("1",))
    process = Process([task])
    assert process.run(mode).entries["a"].result == 1
    task.func, task.args, task.kwargs = take, (1,), {"x": 2}
    assert process.run(mode).entries["a"].result == ((1,), {"x": 2})


def test_run_reuses_tasks_of_another_process(mode: str | None) -> None:
    """1.5: the same Task objects serve a second process, in another company."""
    first, second = Task("a", len, args=("1",)), Task("b", take, dependencies=[TaskDependency("a", True)])
    with Process([first, second]) as process:
        assert process.run(mode).entries["b"].result == ((1,), {})
    with Process([second, Task("c", fail), first], "again") as process:
        report = process.run(mode)
    assert list(report.successes) == ["a", "b"]
    assert report.entries["b"].result == ((1,), {})


@pytest.mark.parametrize(("name", "value"), [("args", None), ("kwargs", 5)])
def test_run_fails_a_task_whose_arguments_cannot_be_had(
    mode: str | None, name: str, value: object, tmp_path: Path
) -> None:
    """10.4: what was assigned is none: no attempt and no retry, otherwise it is told as any other failure."""
    path = tmp_path / "b.log"
    takes = [TaskDependency("a", True)]
    consumer = Task("b", take, path, dependencies=takes, retries=2, retry_on=(TypeError,))
    setattr(consumer, name, value)
    with Process([Task("a", len, args=("1",)), consumer, Task("c", len, dependencies=after("b"))]) as process:
        report = process.run(mode)
        with pytest.raises(ExceptionGroup) as caught:
            process.check(mode)
    assert statuses(report) == {"a": TaskStatus.SUCCESS, "b": TaskStatus.ERRORED, "c": TaskStatus.SKIPPED}
    entry = report.entries["b"]
    assert entry.error is not None
    assert (entry.attempts, entry.attempt_log, entry.elapsed_seconds) == (0, (), 0.0)
    assert (entry.error.exception_type, entry.error.function) == ("TypeError", "take")
    assert "object is not iterable" in entry.error.exception
    assert entry.error.downstream_impact == ["c"]
    assert isinstance(process.runner.results["b"].exception, TypeError)
    assert [level for level, _ in told(path)] == ["INFO", "ERROR"]
    assert ProcessExecutionReport.from_json(report.to_json()).entries["b"].error == entry.error
    assert "Task 'b': args and kwargs are none" in str(caught.value.exceptions[0])


# ---- retries --------------------------------------------------------------------------------------------------------


def test_run_retries_a_refused_connection_of_urllib(mode: str | None) -> None:
    """A15: urllib hides a ConnectionError in its own; with the default `retry_on` it is tried again all the same."""
    tasks = [
        Task("default", refuse_connection, retries=2),
        Task("own", refuse_connection, retries=2, retry_on=(ConnectionError,)),
    ]
    report = Process(tasks).run(mode)
    assert {name: entry.attempts for name, entry in report.errored.items()} == {"default": 3, "own": 1}


def test_run_retries_until_it_works(mode: str | None, tmp_path: Path) -> None:
    """Attempts end with the first success; each is in the attempt log."""
    task = Task("a", fail_first, args=(str(tmp_path / "attempts"), 2), retries=5)
    entry = Process([task]).run(mode).entries["a"]
    assert (entry.status, entry.result, entry.attempts, entry.error) == (TaskStatus.SUCCESS, 3, 3, None)
    told = [(record.attempt, record.outcome, record.why) for record in entry.attempt_log]
    assert told == [
        (1, "ConnectionError", "attempt 1 went wrong"),
        (2, "ConnectionError", "attempt 2 went wrong"),
        (3, "success", ""),
    ]
    assert sum(record.seconds for record in entry.attempt_log) == pytest.approx(entry.elapsed_seconds)
    assert {record.worker_pid is None for record in entry.attempt_log} == {mode != "processes"}


def test_run_gives_up_after_the_last_retry(mode: str | None, tmp_path: Path) -> None:
    """With n retries there are n + 1 attempts; the last exception is reported, dependants are skipped."""
    path = tmp_path / "attempts"
    tasks = [Task("a", fail_first, args=(str(path), 9), retries=2), Task("b", len, dependencies=after("a"))]
    report = Process(tasks).run(mode)
    entry = report.entries["a"]
    assert (entry.attempts, len(entry.attempt_log), len(noted(path))) == (3, 3, 3)
    assert entry.error is not None
    assert entry.error.exception == "attempt 3 went wrong"
    assert set(report.skipped) == {"b"}


def test_run_retries_only_what_may_pass(mode: str | None) -> None:
    """By default only network errors and time-outs are tried again."""
    assert Process([Task("a", fail, retries=3)]).run(mode).entries["a"].attempts == 1


def test_run_retries_what_retry_on_names(mode: str | None, tmp_path: Path) -> None:
    """`retry_on` takes the place of the default; a class of the caller's own will do, and stands for derived ones."""
    tasks = [
        Task("own", fail_first, args=(str(tmp_path / "own"), 1, Flaky), retries=1, retry_on=(KeyError, Flaky)),
        Task("derived", fail_first, args=(str(tmp_path / "derived"), 1, Flakier), retries=1, retry_on=(Flaky,)),
        Task("refused", fail_first, args=(str(tmp_path / "refused"), 1, ConnectionRefusedError), retries=1),
        Task("default", fail_first, args=(str(tmp_path / "default"), 1), retries=1, retry_on=(Flaky,)),
        Task("base", fail_first, args=(str(tmp_path / "base"), 1, Flaky), retries=1, retry_on=(Flakier,)),
    ]
    report = Process(tasks).run(mode)
    attempts = {name: entry.attempts for name, entry in report.entries.items()}
    assert attempts == {"own": 2, "derived": 2, "refused": 2, "default": 1, "base": 1}
    assert set(report.successes) == {"own", "derived", "refused"}


def test_run_waits_before_a_retry(mode: str | None, tmp_path: Path) -> None:
    """The next attempt begins `retry_delay` seconds after the last one ended, or later; waiting is not elapsed time."""
    delay = 0.2
    task = Task("a", fail_first, args=(str(tmp_path / "attempts"), 1), retries=1, retry_delay=delay)
    entry = Process([task]).run(mode).entries["a"]
    assert entry.attempts == 2
    assert entry.started_at is not None
    assert entry.ended_at is not None
    assert (entry.ended_at - entry.started_at).total_seconds() >= delay


def test_run_asks_for_the_delay_of_each_retry(mode: str | None, tmp_path: Path) -> None:
    """A callable `retry_delay` gets the number of the retry, 1 for the first."""
    asked: list[int] = []

    def delay(number: int) -> float:
        asked.append(number)
        return 0.0

    task = Task("a", fail_first, args=(str(tmp_path / "attempts"), 9), retries=3, retry_delay=delay)
    assert Process([task]).run(mode).entries["a"].attempts == 4
    assert asked == [1, 2, 3]


@pytest.mark.parametrize(("delay", "error"), [("1", TypeError), (-1, ValueError), (float("nan"), TypeError)])
def test_run_refuses_a_delay_that_is_none(mode: str | None, delay: Any, error: type[Exception]) -> None:  # noqa: ANN401  a wrong type is the point
    """What a callable `retry_delay` returns is checked before anything starts."""
    ran: list[int] = []
    tasks = [Task("a", ran.append, args=(1,)), Task("b", fail, retries=1, retry_delay=lambda number: delay)]
    with pytest.raises(error, match="retry_delay of task 'b'"):
        Process(tasks).run(mode)
    assert ran == []


# ---- time-outs ------------------------------------------------------------------------------------------------------


def test_run_within_its_timeout_succeeds(mode: str | None) -> None:
    """An instant task and a huge limit."""
    entry = Process([Task("a", len, args=("1",), timeout=AMPLE_S)]).run(mode).entries["a"]
    assert (entry.status, entry.result) == (TaskStatus.SUCCESS, 1)


def test_run_past_its_timeout_fails(mode: str | None, gate: Gate) -> None:
    """A task that passes its time-out fails with a TaskTimeoutError; its dependants are skipped, others run."""
    tasks = [
        Task("slow", pass_gate, args=(gate.address,), timeout=TINY_S),
        Task("next", len, dependencies=after("slow")),
        Task("other", len, args=("1",)),
    ]
    process = Process(tasks)
    report = process.run(mode)
    assert list(report.errored) == ["slow"]
    assert list(report.skipped) == ["next"]
    assert list(report.successes) == ["other"]
    entry = report.entries["slow"]
    assert entry.error is not None
    assert entry.error.exception == f"Task 'slow' timed out after {TINY_S}s"
    assert entry.error.exception_type.endswith("TaskTimeoutError")
    assert TINY_S <= entry.elapsed_seconds < AMPLE_S
    exception = process.runner.results["slow"].exception
    assert isinstance(exception, TimeoutError)
    assert isinstance(exception, TaskTimeoutError)
    assert isinstance(exception.__cause__, TimeoutError)
    assert (exception.task_name, exception.timeout, exception.is_deadline) == ("slow", TINY_S, False)


def test_run_within_its_timeout_shares_memory(local_mode: str | None) -> None:
    """11.2: in this process a task with a time-out works on the caller's objects as well."""
    seen: list[int] = []
    report = Process([Task("a", seen.append, args=(1,), timeout=AMPLE_S)]).run(local_mode)
    assert list(report.successes) == ["a"]
    assert seen == [1]


def test_run_in_children_gives_the_exception_that_was_raised() -> None:
    """4.4: where it survives pickling, `exception` is of the type that the task raised, as in every other mode."""
    process = Process([Task("a", fail)])
    process.run("processes")
    exception = process.runner.results["a"].exception
    assert isinstance(exception, ValueError)
    assert exception.args == ("no such luck",)


def test_run_leaves_a_daemon_behind_and_says_so(local_mode: str | None) -> None:
    """0.3: here a time-out is soft: the thread goes on as a daemon, and a warning names the mode that would end it."""
    opened = threading.Event()
    runs_in: list[threading.Thread] = []

    def wait_for_the_test() -> None:
        runs_in.append(threading.current_thread())
        opened.wait()

    try:
        report = Process([Task("slow", wait_for_the_test, timeout=TINY_S)]).run(local_mode)
        assert list(report.errored) == ["slow"]
        [thread] = runs_in
        assert thread.daemon
        assert thread.is_alive()
        [warning] = report.warnings
        assert "'slow'" in warning
        assert 'parallel="processes"' in warning
    finally:
        opened.set()
    thread.join()


def test_run_does_not_retry_beside_a_thread_left_behind(
    local_mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A3: no second copy of a task starts while the first still runs: the task fails and says why."""
    monkeypatch.setattr("processes.backends.local._OVERDUE_WAIT_S", TINY_S)
    opened = threading.Event()
    begun: list[int] = []

    def wait_for_the_test() -> None:
        begun.append(1)
        opened.wait()

    try:
        entry = Process([Task("slow", wait_for_the_test, timeout=TINY_S, retries=3)]).run(local_mode).entries["slow"]
        assert entry.status is TaskStatus.ERRORED
        assert entry.error is not None
        assert "that attempt still runs" in entry.error.exception
        assert len(begun) == 1
    finally:
        opened.set()


def test_retry_waits_for_the_old_thread_as_long_as_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.3: where that is longer than the second that it waits in any case."""
    monkeypatch.setattr("processes.backends.local._OVERDUE_WAIT_S", 0.0)
    opened = threading.Event()
    backend = ThreadsBackend(1)
    backend.open([Call("slow", opened.wait, (AMPLE_S,), {}, timeout=AMPLE_S)], [None])
    try:
        backend.start(StartAttempt(1, 0, 1))
        backend.cancel(1, TimeoutError())
        backend.start(StartAttempt(2, 0, 2))
        assert [type(event) for event in backend.wait(None)] == [TroubleSeen, AttemptFailed]
        opened.set()
        events = backend.wait(None)
        while not isinstance(events[-1], AttemptsSucceeded):
            events += backend.wait(None)
        assert [type(event) for event in events] == [AttemptStarted, AttemptsSucceeded]
    finally:
        opened.set()
        backend.close()


def test_retry_that_waits_for_the_old_thread_can_be_called_back() -> None:
    """It has not begun."""
    opened = threading.Event()
    backend = ThreadsBackend(1)
    backend.open([Call("slow", opened.wait, (AMPLE_S,), {}, timeout=AMPLE_S)], [None])
    try:
        backend.start(StartAttempt(1, 0, 1))
        backend.cancel(1, TimeoutError())
        backend.start(StartAttempt(2, 0, 2))
        backend.recall()
        assert AttemptReturned(2) in backend.wait(None)
    finally:
        opened.set()
        backend.close()


def test_run_counts_only_attempts_that_were_made(local_mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """11.4: a retry that could not begin, since the first attempt's thread still ran, is no attempt."""
    monkeypatch.setattr("processes.backends.local._OVERDUE_WAIT_S", TINY_S)
    opened = threading.Event()
    try:
        entry = Process([Task("slow", opened.wait, timeout=TINY_S, retries=3)]).run(local_mode).entries["slow"]
        assert (entry.attempts, len(entry.attempt_log)) == (1, 1)
    finally:
        opened.set()


def test_run_retries_once_the_thread_left_behind_has_ended(local_mode: str | None) -> None:
    """After a soft time-out the next attempt begins as soon as the old thread lets go."""
    opened = threading.Event()
    begun: list[int] = []

    def late_at_first() -> str:
        begun.append(1)
        if len(begun) == 1:
            opened.wait()
        return "done"

    def open_late(number: int) -> float:
        threading.Timer(0.3, opened.set).start()
        return 0.0

    try:
        task = Task("slow", late_at_first, timeout=0.2, retries=1, retry_delay=open_late)
        entry = Process([task]).run(local_mode).entries["slow"]
    finally:
        opened.set()
    assert (entry.status, entry.result, entry.attempts) == (TaskStatus.SUCCESS, "done", 2)
    assert [record.outcome.rpartition(".")[2] for record in entry.attempt_log] == ["TaskTimeoutError", "success"]


def test_run_kills_a_child_past_its_timeout(gate: Gate) -> None:
    """In processes mode the attempt's child is dead, and another one makes the next attempt and the next task."""
    tasks = [
        Task("slow", pass_gate, args=(gate.address,), timeout=1, retries=1),
        Task("next", os.getpid),
    ]
    report = Process(tasks).run("processes", 1)
    assert list(report.errored) == ["slow"]
    assert [record.why for record in report.entries["slow"].attempt_log] == ["Task 'slow' timed out after 1s"] * 2
    pids = [record.worker_pid for record in report.entries["slow"].attempt_log]
    assert len({*pids, report.entries["next"].result}) == 3
    for _ in pids:
        arrived = gate.child_arrives()
        assert arrived.pid in pids
        arrived.wait_gone(timeout=0.1)


def test_run_keeps_the_message_of_a_tasks_own_timeout_error(mode: str | None) -> None:
    """A4: a TimeoutError that the task raised is its own, time-out or not."""
    tasks = [Task("a", time_out_itself, timeout=AMPLE_S), Task("b", time_out_itself, retries=1)]
    report = Process(tasks).run(mode)
    for entry in report.errored.values():
        assert entry.error is not None
        assert (entry.error.exception, entry.error.exception_type) == ("db said no", "TimeoutError")
        assert "time_out_itself" in entry.error.traceback_str
    assert {name: entry.attempts for name, entry in report.errored.items()} == {"a": 1, "b": 2}


# ---- deadline, fail_fast, memory limit ------------------------------------------------------------------------------


def test_run_within_its_deadline_is_whole(mode: str | None) -> None:
    """Instant tasks and a huge deadline."""
    tasks = [Task("a", len, args=("1",)), Task("b", len, args=("1",), dependencies=after("a"))]
    assert list(Process(tasks).run(mode, deadline=AMPLE_S).successes) == ["a", "b"]


def test_run_at_its_deadline_ends_what_runs_and_skips_the_rest(concurrent_mode: str, gate: Gate) -> None:
    """What runs at the deadline is errored, what waits is skipped; both name the deadline."""
    tasks = [
        Task("slow", pass_gate, args=(gate.address,), retries=5),
        Task("waits", len, dependencies=after("slow")),
    ]
    process = Process(tasks)
    report = process.run(concurrent_mode, 1, deadline=2.0)
    assert list(report.errored) == ["slow"]
    assert is_deadline_of(report.entries["slow"], 2.0)
    exception = process.runner.results["slow"].exception
    assert isinstance(exception, TaskTimeoutError)
    assert exception.is_deadline
    assert report.entries["slow"].attempts == 1
    assert list(report.skipped) == ["waits"]
    assert report.entries["waits"].why == "the run's deadline of 2.0s passed"


def test_run_at_its_deadline_keeps_what_had_ended(concurrent_mode: str, gate: Gate) -> None:
    """Tasks that had ended before the deadline stand; ready ones without a slot are skipped."""
    tasks = [
        Task("early", len, args=("1",)),
        Task("slow", pass_gate, args=(gate.address,)),
        *(Task(f"late-{n}", pass_gate, args=(gate.address,)) for n in range(3)),
    ]
    report = Process(tasks).run(concurrent_mode, 1, deadline=2.0)
    assert list(report.successes) == ["early"]
    assert list(report.errored) == ["slow"]
    assert {entry.why for entry in report.skipped.values()} == {"the run's deadline of 2.0s passed"}
    assert len(report.skipped) == 3


def test_run_at_its_deadline_sequentially_starts_nothing_more() -> None:
    """In the calling thread a task cannot be stopped: it ends as it does, and the rest is skipped."""
    passed = threading.Event()
    tasks = [Task("slow", lambda: passed.wait(2 * TINY_S)), Task("next", len, args=("1",))]
    report = Process(tasks).run(deadline=TINY_S)
    assert statuses(report) == {"slow": TaskStatus.SUCCESS, "next": TaskStatus.SKIPPED}
    assert report.entries["next"].why == f"the run's deadline of {TINY_S}s passed"


def test_run_at_its_deadline_fails_what_waited_for_a_retry(mode: str | None, tmp_path: Path) -> None:
    """A task between two attempts has failed with what its last attempt raised."""
    task = Task("a", fail_first, args=(str(tmp_path / "attempts"), 9), retries=1, retry_delay=AMPLE_S)
    entry = Process([task]).run(mode, deadline=2.0).entries["a"]
    assert entry.error is not None
    assert (entry.attempts, entry.error.exception) == (1, "attempt 1 went wrong")


@pytest.mark.parametrize(
    ("deadline", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (0, ValueError),
        (-1.0, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
    ],
)
def test_run_refuses_a_deadline_that_is_none(mode: str | None, deadline: Any, error: type[Exception]) -> None:  # noqa: ANN401  a wrong type is the point
    """A deadline is a positive, finite number."""
    with pytest.raises(error, match="deadline must be a"):
        Process([Task("a", len, args=("1",))]).run(mode, deadline=deadline)


def test_run_that_fails_fast_starts_nothing_after_a_failure(mode: str | None, tmp_path: Path) -> None:
    """After the first failure nothing starts; what never ran says whose failure ended the run."""
    path = tmp_path / "ran"
    tasks = [
        Task("first", note, args=(str(path), "first")),
        Task("bad", fail, dependencies=after("first")),
        Task("child", note, args=(str(path), "child"), dependencies=after("bad")),
        # Waits for its turn until the failure is known: "bad" is a level before it.
        Task("other", note, args=(str(path), "other"), dependencies=after("bad", "first")),
    ]
    report = Process(tasks).run(mode, 1, fail_fast=True)
    assert list(report.successes) == ["first"]
    assert list(report.errored) == ["bad"]
    assert list(report.skipped) == ["child", "other"]
    assert noted(path) == ["first"]


def test_run_that_fails_fast_lets_end_what_runs(concurrent_mode: str, tmp_path: Path) -> None:
    """What runs while another task fails may end; what would follow it is skipped because of the failure."""
    with Gate() as gate, ThreadPoolExecutor(1) as pool, gate, Gate() as second, second:
        tasks = [
            Task("runs", pass_gate, args=(gate.address,)),
            Task("bad", _pass_and_fail, args=(second.address,)),
            Task("follows", note, args=(str(tmp_path / "ran"),), dependencies=after("runs")),
        ]
        future = pool.submit(Process(tasks).run, concurrent_mode, 2, fail_fast=True)
        arrived = gate.child_arrives()
        second.child_arrives().let_go()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.5)  # The failure has been seen by then, or not: the result is the same.
        arrived.let_go()
        report = future.result()
    assert list(report.successes) == ["runs"]
    assert list(report.errored) == ["bad"]
    assert report.entries["follows"].why == "'bad' failed, and the run was to stop at the first failure"
    assert noted(tmp_path / "ran") == []


def _pass_and_fail(address: bytes) -> None:
    import contextlib
    import socket

    with contextlib.suppress(ConnectionError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.recv(1)
    raise ValueError("no such luck")


def test_run_here_refuses_a_memory_limit(local_mode: str | None) -> None:
    """Where a limit cannot be enforced nothing starts; the refusal names the task and the mode that can."""
    ran: list[int] = []
    process = Process([Task("free", ran.append, args=(1,)), Task("bound", len, memory_limit="64MiB")])
    with pytest.raises(ValueError, match="Task 'bound' has memory_limit=67108864, which only parallel='processes'"):
        process.run(local_mode)
    assert ran == []


def test_run_in_children_takes_a_memory_limit() -> None:
    """An attempt that stays below its limit is left alone."""
    report = Process([Task("a", len, args=("1",), memory_limit="1GiB")]).run("processes")
    assert list(report.successes) == ["a"]


# ---- workers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_workers", [0, -3, 1])
def test_run_has_at_least_one_worker(mode: str | None, max_workers: int) -> None:
    """A number of workers below 1 counts as 1."""
    report = Process([Task(name, len, args=("1",)) for name in "abc"]).run(mode, max_workers)
    assert list(report.successes) == ["a", "b", "c"]
    assert len({entry.worker_pid for entry in report.entries.values()}) == 1


def test_run_has_a_worker_for_each_cpu_it_may_use(concurrent_mode: str) -> None:
    """0.1: unless it is told how many; affinity counts, not what the machine has."""
    cpus = os.sched_getaffinity(0)

    def workers() -> int | None:
        run = Process([Task("a", len, args=("1",))]).run(concurrent_mode).run
        return None if run is None else run.max_workers

    assert workers() == usable_cpus()
    os.sched_setaffinity(0, {min(cpus)})
    try:
        assert workers() == 1
    finally:
        os.sched_setaffinity(0, cpus)


@pytest.mark.parametrize("max_workers", ["2", 2.0, True])
def test_run_refuses_a_number_of_workers_that_is_none(mode: str | None, max_workers: Any) -> None:  # noqa: ANN401  a wrong type is the point
    """The number of workers is an int or None."""
    with pytest.raises(TypeError, match="max_workers must be an int or None, got"):
        Process([Task("a", len, args=("1",))]).run(mode, max_workers)


def test_run_refuses_two_numbers_of_workers() -> None:
    """A pool that has its own number does not take another."""
    with pytest.raises(ValueError, match=r"max_workers=2 contradicts ProcessPool\(max_workers=1\)"):
        Process([Task("a", len, args=("1",))]).run(ProcessPool(1), 2)


def test_run_with_one_worker_uses_one_child() -> None:
    """0.9: one worker is one child, not the calling thread."""
    report = Process([Task(str(n), os.getpid) for n in range(5)]).run("processes", 1)
    [pid] = {entry.result for entry in report.entries.values()}
    assert pid != os.getpid()
    assert {entry.worker_pid for entry in report.entries.values()} == {pid}


def test_run_in_threads_is_concurrent() -> None:
    """Sixteen tasks meet at one barrier."""
    barrier = threading.Barrier(16)
    tasks = [Task(str(n), barrier.wait, args=(AMPLE_S,)) for n in range(16)]
    report = Process(tasks).run("threads", 18)
    assert sorted(entry.result for entry in report.successes.values()) == list(range(16))


def test_run_in_threads_keeps_to_its_workers() -> None:
    """No more tasks run at a time than there are workers."""
    lock = threading.Lock()
    now: list[int] = []
    peaks: list[int] = []

    def overlap() -> None:
        with lock:
            now.append(1)
            peaks.append(len(now))
        threading.Event().wait(0.005)
        with lock:
            now.pop()

    Process([Task(str(n), overlap) for n in range(20)]).run("threads", 3)
    assert len(peaks) == 20
    assert max(peaks) <= 3


def test_run_in_children_is_concurrent(gate: Gate) -> None:
    """Four tasks are at the gate at once, each in a child of its own; a fifth comes when one has gone on."""
    tasks = [Task(str(n), pass_gate, args=(gate.address,)) for n in range(5)]
    with ThreadPoolExecutor(1) as pool, gate:
        future = pool.submit(Process(tasks).run, "processes", 4)
        arrived = [gate.child_arrives() for _ in range(4)]
        assert len({os.getpid(), *(child.pid for child in arrived)}) == 5
        with pytest.raises(TimeoutError):
            gate.child_arrives(timeout=0.2)
        arrived[0].let_go()
        arrived.append(gate.child_arrives())
        for child in arrived[1:]:
            child.let_go()
        assert len(future.result().successes) == 5


def test_run_starts_a_task_as_soon_as_its_own_dependencies_ended(concurrent_mode: str) -> None:
    """There is no barrier between levels: a chain gets through beside a task that holds."""
    with Gate() as gate, ThreadPoolExecutor(1) as pool, gate:
        tasks = [
            Task("held", pass_gate, args=(gate.address,)),
            Task("a", len, args=("1",)),
            Task("b", len, args=("1",), dependencies=after("a")),
            Task("c", pass_gate, args=(gate.address,), dependencies=after("b")),
        ]
        future = pool.submit(Process(tasks).run, concurrent_mode, 2)
        for arrived in [gate.child_arrives(), gate.child_arrives()]:
            arrived.let_go()
        assert len(future.result().successes) == 4


# ---- keep_result ----------------------------------------------------------------------------------------------------


def test_run_frees_a_result_that_nobody_keeps(local_mode: str | None) -> None:
    """A result with keep_result=False is freed after its last consumer, while the run goes on."""

    class Big:
        pass

    def make() -> Big:
        big = Big()
        weakref.finalize(big, freed.set)
        return big

    freed = threading.Event()
    tasks = [
        Task("a", make, keep_result=False),
        Task("b", lambda big: type(big).__name__, dependencies=[TaskDependency("a", True)]),
        Task("c", freed.wait, args=(AMPLE_S,), dependencies=after("b")),
    ]
    report = Process(tasks).run(local_mode)
    assert [entry.result for entry in report.entries.values()] == [None, "Big", True]


def test_run_reports_none_for_a_result_that_nobody_keeps(mode: str | None) -> None:
    """keep_result=False: consumers get the result, the report has None, with consumers or without."""
    tasks = [
        Task("a", len, args=("1",), keep_result=False),
        Task("b", take, dependencies=[TaskDependency("a", True)]),
        Task("c", take, dependencies=[TaskDependency("a", True)]),
        Task("alone", len, args=("1",), keep_result=False),
    ]
    report = Process(tasks).run(mode)
    assert {name: entry.result for name, entry in report.entries.items()} == {
        "a": None,
        "alone": None,
        "b": ((1,), {}),
        "c": ((1,), {}),
    }
    assert len(report.successes) == 4
