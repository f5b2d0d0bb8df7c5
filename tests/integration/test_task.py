"""Task: what its constructor checks and keeps, and what it does without a process."""

import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processes import CircularDependencyError, Process, Task, TaskDependency, TaskStatus, TaskTimeoutError
from processes.task import TaskOptions
from support.gate import Gate, pass_gate

#: No passing test comes near it.
AMPLE_S = 50.0

_WRONG_TYPES = [
    ({"name": 1}, "name must be str. Got <class 'int'>"),
    ({"func": 1}, "func must be callable. Got <class 'int'>"),
    ({"args": [1]}, "args must be tuple. Got <class 'list'>"),
    ({"kwargs": [1]}, "kwargs must be dict. Got <class 'list'>"),
    ({"dependencies": ()}, "dependencies must be list. Got <class 'tuple'>"),
    ({"dependencies": ["a"]}, "dependency must be of type TaskDependency. Got <class 'str'>"),
    ({"traced_vars_frame_filter": 1}, "traced_vars_frame_filter must be a str or None. Got <class 'int'>"),
    ({"timeout": 0}, "timeout must be a positive number or None, got 0"),
    ({"timeout": -1.0}, "timeout must be a positive number or None, got -1.0"),
    ({"timeout": "30"}, "timeout must be a positive number or None, got '30'"),
    ({"timeout": True}, "timeout must be a positive number or None, got True"),
    ({"timeout": float("nan")}, "timeout must be a positive number or None, got nan"),
    ({"timeout": float("inf")}, "timeout must be a positive number or None, got inf"),
    ({"retries": -1}, "retries must be a non-negative int, got -1"),
    ({"retries": 1.0}, "retries must be a non-negative int, got 1.0"),
    ({"retries": True}, "retries must be a non-negative int, got True"),
    ({"retry_on": "x"}, "retry_on must be None or a tuple of Exception subclasses"),
    ({"retry_on": ()}, "retry_on must be None or a tuple of Exception subclasses, got ()"),
    ({"retry_on": (int,)}, "retry_on must be None or a tuple of Exception subclasses"),
    ({"retry_on": [ValueError]}, "retry_on must be None or a tuple of Exception subclasses"),
    ({"retry_on": (KeyboardInterrupt,)}, "retry_on must be None or a tuple of Exception subclasses"),
    ({"retry_delay": "1"}, "retry_delay of task 'a' must be a number of seconds or give one, got '1'"),
    ({"retry_delay": True}, "retry_delay of task 'a' must be a number of seconds or give one, got True"),
    ({"memory_limit": 1.5}, "memory_limit of task 'a': "),
    ({"keep_result": 1}, "keep_result must be"),
]


def task(**parts: Any) -> Task:  # noqa: ANN401  wrong types are the point
    """A task with these parts changed."""
    return Task(**{"name": "a", "func": len, **parts})


def refuse() -> None:
    raise ValueError("no such luck")


def lines(path: Path) -> list[str]:
    """A log's lines without time and logger's name."""
    return [line.split(" - ", 2)[2] for line in path.read_text(encoding="utf-8").splitlines()]


# ---- construction ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("parts", "message"), _WRONG_TYPES, ids=[message for _, message in _WRONG_TYPES])
def test_task_refuses_wrong_types(parts: dict[str, object], message: str) -> None:
    """A part of a wrong type, and a bad time-out or number of retries, is a TypeError that says so."""
    with pytest.raises(TypeError) as caught:
        task(**parts)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"name": "My Task"}, "Task name cannot contain spaces. Got my task"),
        ({"name": ""}, "Task name cannot be empty."),
        ({"name": "a\tb"}, "Task name cannot contain control characters. Got 'a\\tb'"),
        ({"name": "a\nb"}, "Task name cannot contain control characters. Got 'a\\nb'"),
        ({"name": "a\x00"}, "Task name cannot contain control characters. Got 'a\\x00'"),
        (
            {"dependencies": [TaskDependency("x"), TaskDependency("y"), TaskDependency("X")]},
            "Duplicate dependency name: x",
        ),
        ({"retry_delay": -1}, "retry_delay of task 'a' must not be negative, got -1"),
        ({"memory_limit": "many"}, "memory_limit of task 'a': "),
        ({"memory_limit": 0}, "memory_limit of task 'a': "),
    ],
)
def test_task_refuses_bad_values(parts: dict[str, object], message: str) -> None:
    """A bad name, a dependency named twice, a bad delay or size is a ValueError that says so."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared below
        task(**parts)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["a", "A", "STRASSE", "straße"])
def test_task_refuses_to_wait_for_itself(name: str) -> None:
    """Its own name among the dependencies, in any case, is a circle."""
    with pytest.raises(CircularDependencyError, match=f"Task '{name.lower()}' lists itself as a dependency."):
        task(name=name, dependencies=[TaskDependency(name.upper())])


def test_task_checks_types_before_values(tmp_path: Path) -> None:
    """Types come first, then the name, then the dependencies; a refused task makes no logfile."""
    path = tmp_path / "a.log"
    twice = [TaskDependency("x"), TaskDependency("x")]
    with pytest.raises(TypeError, match="name must be str"):
        task(name=None, func=None)
    with pytest.raises(TypeError, match="args must be tuple"):
        task(name="a b", args=[], log_path=path)
    with pytest.raises(TypeError, match="retries must be a non-negative int"):
        task(name="a b", retries=-1, log_path=path)
    with pytest.raises(ValueError, match="cannot contain spaces"):
        task(name="a b", dependencies=twice, log_path=path)
    with pytest.raises(ValueError, match="Duplicate dependency"):
        task(dependencies=twice, log_path=path)
    with pytest.raises(CircularDependencyError):
        task(dependencies=[TaskDependency("a")], log_path=path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["Fetch/All", "É", "a.b-c_d", "a\u00a0b", "数据", "x" * 500])
def test_task_keeps_its_name_in_lower_case(name: str) -> None:
    """2.1, 2.2: any name without a space and control characters will do, one with a no-break space too."""
    assert task(name=name).name == name.lower()


def test_task_takes_parts_by_position(tmp_path: Path) -> None:
    """The ten parameters of 7.0.4 can be given by position."""
    args, kwargs, wants, path = (1,), {"x": 2}, [TaskDependency("b")], str(tmp_path / "a.log")
    made = Task("A", take, path, args, kwargs, wants, "etl", 1.5, 2, (KeyError,))
    assert (made.name, made.func, made.log_path, made.args, made.kwargs) == ("a", take, path, args, kwargs)
    assert (made.dependencies, made.traced_vars_frame_filter, made.timeout) == (wants, "etl", 1.5)
    assert (made.retries, made.retry_on) == (2, (KeyError,))
    assert made.get_dependencies_names() == {"b"}


def take(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


def test_task_has_defaults() -> None:
    """What is not given is empty, none or zero; `retries=None` is zero."""
    made = task(retries=None)
    assert (made.log_path, made.args, made.kwargs, made.dependencies) == (None, (), {}, [])
    assert (made.traced_vars_frame_filter, made.timeout, made.retries, made.retry_on) == (None, None, 0, None)
    assert (made.retry_delay, made.memory_limit, made.keep_result) == (0.0, None, True)
    assert made.get_dependencies_names() == set()


def test_task_attributes_can_be_assigned() -> None:
    """Its parts are plain attributes, and a run uses what they are then."""
    made = task()
    made.func, made.args, made.kwargs, made.retries, made.timeout = take, (1,), {"x": 2}, 3, AMPLE_S
    assert made.run().result == ((1,), {"x": 2})


@pytest.mark.parametrize(
    "name",
    "name log_path func args kwargs dependencies traced_vars_frame_filter timeout retries retry_on logger".split(),  # noqa: SIM905  as in the contract
)
def test_task_attribute_is_whatever_was_assigned(name: str) -> None:
    """2.6: all eleven are plain."""
    made, value = task(), object()
    assert hasattr(made, name)
    setattr(made, name, value)
    assert getattr(made, name) is value


def test_task_runs_with_the_limits_that_were_assigned() -> None:
    """2.6: what says how a failure is treated is read when the task runs."""
    made = task(func=refuse)
    made.retries, made.retry_on, made.traced_vars_frame_filter = 1, (ValueError,), "no such file"
    assert made.run().attempts == 2
    made.func, made.timeout = threading.get_ident, AMPLE_S
    assert made.run().result != threading.get_ident()


def test_task_reads_a_memory_limit_as_bytes() -> None:
    """A size can be a text; it is kept in bytes."""
    assert task(memory_limit="1KiB").memory_limit == 1024


def test_task_does_not_share_its_list_of_dependencies() -> None:
    """F6: what is added to one task's dependencies does not reach another that was given the same list."""
    shared = [TaskDependency("z")]
    first, second = task(name="x", dependencies=shared), task(name="y", dependencies=shared)
    first.dependencies.append(TaskDependency("w"))
    assert second.get_dependencies_names() == {"z"}


def test_task_renamed_counts_under_its_new_name() -> None:
    """2.7: names assigned after construction are used by the next Process."""
    first, second = task(name="a", args=("1",)), task(name="b", args=("1",), dependencies=[TaskDependency("a")])
    first.name, second.dependencies[0].task_name = "renamed", "renamed"
    assert list(Process([second, first]).run().successes) == ["renamed", "b"]


# ---- log file -------------------------------------------------------------------------------------------------------


def test_task_makes_its_logfile_at_construction(tmp_path: Path) -> None:
    """The file exists before anything runs, and its path is absolute."""
    path = tmp_path / "a.log"
    made = task(log_path=path)
    assert path.read_text(encoding="utf-8") == ""
    assert made.log_path == str(path)
    assert made.logger.handlers
    made.close_handlers()


def test_task_takes_a_relative_log_path_as_of_its_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program goes later does not move the log."""
    monkeypatch.chdir(tmp_path)
    made = task(log_path="a.log", args=("1",))
    monkeypatch.chdir("/")
    made.run()
    made.close_handlers()
    assert made.log_path == str(tmp_path / "a.log")
    assert len(lines(tmp_path / "a.log")) == 2


def test_task_appends_to_its_logfile(tmp_path: Path) -> None:
    """What a file held before stays."""
    path = tmp_path / "a.log"
    path.write_text("0 - 1 - before\n", encoding="utf-8")
    made = task(log_path=path, args=("1",))
    made.run()
    made.close_handlers()
    assert lines(path) == ["before", "INFO - Starting a.", "INFO - Finished a."]


def test_task_refuses_a_logfile_in_a_missing_folder(tmp_path: Path) -> None:
    """The constructor raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        task(log_path=tmp_path / "missing" / "a.log")


def test_task_closes_every_handler(tmp_path: Path) -> None:
    """`close_handlers` closes and detaches the user's handlers too, and can be called again."""

    class Closable(logging.Handler):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    handler = Closable()
    made = task(log_path=tmp_path / "a.log")
    made.logger.addHandler(handler)
    made.close_handlers()
    made.close_handlers()
    assert made.logger.handlers == []
    assert handler.closed == 1


def test_task_with_a_logfile_has_one_handler_for_it(tmp_path: Path) -> None:
    """13.2: a file handler on the path, from INFO on, that appends."""
    path = tmp_path / "a.log"
    made = task(log_path=path)
    [handler] = made.logger.handlers
    assert isinstance(handler, logging.FileHandler)
    assert (handler.baseFilename, handler.level, handler.mode) == (str(path), logging.INFO, "a")
    assert (made.logger.level, made.logger.propagate) == (logging.DEBUG, True)
    made.close_handlers()


def test_task_without_a_logfile_has_a_null_handler() -> None:
    """13.2: logging has somebody to give its records to, and nobody keeps them."""
    assert [type(handler) for handler in task().logger.handlers] == [logging.NullHandler]


def test_task_logger_can_be_assigned() -> None:
    """2.6: as every other attribute; the task's records go there."""
    made = task(args=("1",))
    told: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    own: Any = task(name="other").logger
    own.addHandler(Keeper())
    made.logger = own
    made.run()
    assert told == ["Starting a.", "Finished a."]


def test_task_logger_is_of_its_own() -> None:
    """C4, B1: two tasks of one name have different loggers, and logging's registry knows neither."""
    first, second = task(name="same"), task(name="same")
    assert first.logger is not second.logger
    assert first.logger.name.startswith("processes.same")
    assert first.logger.level == logging.DEBUG
    assert not [name for name in logging.root.manager.loggerDict if name.startswith("processes.same")]


# ---- run ------------------------------------------------------------------------------------------------------------


def test_task_runs_without_a_process() -> None:
    """`run` calls the function in this thread and says what it returned; dependencies are ignored."""
    here = threading.get_ident()
    made = task(func=lambda *args: (threading.get_ident(), args), args=(1,), dependencies=[TaskDependency("b", True)])
    outcome = made.run()
    assert (outcome.status, outcome.worked, outcome.exception, outcome.error_data) == (
        TaskStatus.SUCCESS,
        True,
        None,
        None,
    )
    assert outcome.result == (here, (1,))
    assert outcome.attempts == 1
    assert outcome.elapsed_seconds >= 0


def test_task_run_returns_the_failure() -> None:
    """An exception is in the result, the very object, and not raised."""
    error = KeyError("k")

    def fail() -> None:
        raise error

    outcome = task(func=fail, kwargs={}).run()
    assert (outcome.status, outcome.worked, outcome.result) == (TaskStatus.ERRORED, False, None)
    assert outcome.exception is error
    assert outcome.error_data is not None
    assert (outcome.error_data.exception, outcome.error_data.exception_type) == ("'k'", "KeyError")
    assert outcome.error_data.downstream_impact == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseException("base")])
def test_task_run_never_raises_what_the_task_raised(error: BaseException) -> None:
    """A5: what is no Exception fails the task as well."""

    def fail() -> None:
        raise error

    assert task(func=fail).run().exception is error


def test_task_run_retries() -> None:
    """Attempts are counted; the last exception is reported."""
    made: list[int] = []

    def fail() -> None:
        made.append(1)
        raise ConnectionError(f"attempt {len(made)}")

    outcome = task(func=fail, retries=2).run()
    assert (outcome.attempts, len(made), str(outcome.exception)) == (3, 3, "attempt 3")


def test_task_run_times_out(gate: Gate) -> None:
    """Past its time-out a task is reported, though its thread goes on."""
    outcome = task(func=pass_gate, args=(gate.address,), timeout=0.05).run()
    assert isinstance(outcome.exception, TaskTimeoutError)
    assert str(outcome.exception) == "Task 'a' timed out after 0.05s"
    assert outcome.attempts == 1


def test_task_run_within_its_timeout_shares_memory() -> None:
    """11.2: with a time-out the function still works on the caller's objects."""
    seen: list[int] = []
    assert task(func=seen.append, args=(1,), timeout=AMPLE_S).run().worked
    assert seen == [1]


def test_task_run_tells_a_timeout_as_it_was_written(gate: Gate) -> None:
    """A whole number of seconds is told as one."""
    outcome = task(func=pass_gate, args=(gate.address,), timeout=1).run()
    assert str(outcome.exception) == "Task 'a' timed out after 1s"


def test_task_run_takes_results_of_the_process_that_ran() -> None:
    """With a process, results of its last run are passed on."""
    first = task(name="a", args=("22",))
    second = task(name="b", func=take, dependencies=[TaskDependency("A", True, True, "x")])
    process = Process([first, second])
    process.run()
    assert second.run(process).result == ((2,), {"x": 2})
    assert (second.args, second.kwargs) == ((), {})


def test_task_run_takes_none_of_a_process_that_did_not_run() -> None:
    """Before the process ran, a result is None."""
    process = Process([task(name="a"), task(name="b", func=take, dependencies=[TaskDependency("a", True)])])
    assert process.get_task("b").run(process).result == ((None,), {})


def test_task_run_finds_a_result_under_a_name_in_any_case() -> None:
    """0.6: names are compared by casefold, where results are looked up too."""
    process = Process(
        [
            task(name="straße", args=("1",)),
            task(name="b", func=take, dependencies=[TaskDependency("STRASSE", True)]),
        ]
    )
    process.run()
    assert process.get_task("b").run(process).result == ((1,), {})


def test_task_run_fails_where_the_process_lacks_its_dependency() -> None:
    """10.4: a process without the task it waits for: a KeyError, no attempt, whatever is retried."""
    made = task(dependencies=[TaskDependency("elsewhere", True)], retries=3, retry_on=(KeyError,))
    outcome = made.run(Process([task(name="b")]))
    assert isinstance(outcome.exception, KeyError)
    assert (outcome.status, outcome.attempts) == (TaskStatus.ERRORED, 0)
    assert outcome.error_data is not None
    assert outcome.error_data.task_name == "a"


def test_task_run_fails_where_what_was_assigned_is_no_arguments() -> None:
    """10.4: no attempt, whatever is retried, and nothing is raised."""
    made = task(func=take, retries=3, retry_on=(TypeError,))
    made.args = None  # type: ignore[assignment]
    outcome = made.run()
    assert (outcome.status, outcome.attempts, outcome.result) == (TaskStatus.ERRORED, 0, None)
    assert isinstance(outcome.exception, TypeError)
    made.args = [1, 2]  # type: ignore[assignment]  # which can be had
    assert made.run().result == ((1, 2), {})


def test_task_run_that_cannot_get_its_arguments_is_logged(tmp_path: Path) -> None:
    """10.4: a failure to get the arguments is logged like any other, with the function's name."""
    path = tmp_path / "a.log"
    made = task(log_path=path, dependencies=[TaskDependency("elsewhere", True)])
    outcome = made.run(Process([task(name="b")]))
    made.close_handlers()
    assert outcome.error_data is not None
    assert outcome.error_data.function == "len"
    assert "ERROR - 'elsewhere'" in path.read_text(encoding="utf-8")


def test_task_run_that_cannot_get_its_arguments_has_started(tmp_path: Path) -> None:
    """10.4, 13.5: it is logged like any other failure: first that it started, then the record."""
    path = tmp_path / "a.log"
    made = task(log_path=path, dependencies=[TaskDependency("elsewhere", True)])
    made.run(Process([task(name="b")]))
    made.close_handlers()
    told = [line.split(" - ", 2)[2] for line in path.read_text(encoding="utf-8").splitlines() if " - " in line]
    assert told == ["INFO - Starting a.", "ERROR - 'elsewhere'"]


def test_task_run_fails_where_the_process_lacks_what_it_only_waits_for() -> None:
    """2.11: a dependency without flags is missed as well."""
    outcome = task(args=("1",), dependencies=[TaskDependency("elsewhere")]).run(Process([task(name="b")]))
    assert isinstance(outcome.exception, KeyError)
    assert outcome.attempts == 0


def test_task_run_times_out_with_a_cause(gate: Gate) -> None:
    """11.1: as in 7.0.4, where the wait for the thread had timed out."""
    exception = task(func=pass_gate, args=(gate.address,), timeout=0.05).run().exception
    assert exception is not None
    assert isinstance(exception.__cause__, TimeoutError)


def test_task_run_names_its_dependants_in_the_process() -> None:
    """With a process, the failure says which tasks depend on it."""
    process = Process(
        [
            task(name="a", func=refuse),
            task(name="b", dependencies=[TaskDependency("a")]),
            task(name="c", dependencies=[TaskDependency("b")]),
        ]
    )
    data = process.get_task("a").run(process).error_data
    assert data is not None
    assert data.downstream_impact == ["b", "c"]


def test_task_run_logs_to_its_file(tmp_path: Path) -> None:
    """Without a process too: two lines for a success; after `close_handlers` the next run opens the file anew."""
    made = task(log_path=tmp_path / "a.log", args=("1",))
    made.run()
    made.close_handlers()
    made.run()
    made.close_handlers()
    assert lines(tmp_path / "a.log") == ["INFO - Starting a.", "INFO - Finished a."] * 2


def test_task_runs_from_any_thread() -> None:
    """`run` needs no main thread."""
    outcomes: list[object] = []
    thread = threading.Thread(target=lambda: outcomes.append(task(func=os.getpid).run().result))
    thread.start()
    thread.join()
    assert outcomes == [os.getpid()]


# ---- many of one function --------------------------------------------------------------------------------------------


def test_map_makes_a_task_of_each_item() -> None:
    """Named by its number, with the item as its argument."""
    tasks = Task.map("Square", abs, (number for number in (4, -5)), timeout=7, retries=2)
    assert [(task.name, task.func, task.args) for task in tasks] == [
        ("square[0]", abs, (4,)),
        ("square[1]", abs, (-5,)),
    ]
    assert {(task.timeout, task.retries, task.memory_limit) for task in tasks} == {(7, 2, None)}
    assert Task.map("none", abs, []) == []


def test_map_takes_an_argument_from_each_iterable() -> None:
    """As `map` does; but items without a counterpart are no call, and silence would lose them."""
    assert [task.args for task in Task.map("t", pow, (2, 3), [4, 5])] == [(2, 4), (3, 5)]
    with pytest.raises(ValueError, match="iterables of 't' are not of the same length"):
        Task.map("t", pow, (2, 3), [4])


def test_map_gives_each_task_containers_of_its_own() -> None:
    """What is added to one later is not added to all."""
    kwargs, dependencies = {"base": 10}, [TaskDependency("first")]
    one, other = Task.map("t", int, ["1", "2"], kwargs=kwargs, dependencies=dependencies)
    one.kwargs["base"] = 2
    one.dependencies.append(TaskDependency("second"))
    assert (other.kwargs, kwargs, len(other.dependencies), len(dependencies)) == ({"base": 10}, {"base": 10}, 1, 1)


def fails() -> Iterator[int]:
    yield 1
    message = "zip"
    raise ValueError(message)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Task.map("t", abs), TypeError, "needs an iterable"),
        (lambda: Task.map("t", abs, 5), TypeError, "not iterable|must support iteration"),  # type: ignore[arg-type]
        (lambda: Task.map("t t", abs, [1]), ValueError, "cannot contain spaces"),
        (lambda: Task.map("t", abs, [1], kwargs=5), TypeError, "kwargs must be dict"),  # type: ignore[arg-type]
        (lambda: Task.map("t", abs, [1], args=(5,)), TypeError, "args"),  # type: ignore[call-arg]
        (lambda: Task.map("t", abs, fails()), ValueError, "^zip$"),
    ],
)
def test_map_refuses_what_makes_no_tasks(call: Callable[[], object], error: type[Exception], message: str) -> None:
    """Before any is run; what an iterable raises comes to the caller as it is."""
    with pytest.raises(error, match=message):
        call()


def test_map_takes_every_option_of_a_task() -> None:
    """A parameter that is added to one is known to the other."""
    parameters = set(inspect.signature(Task).parameters) - {"name", "func", "args"}
    assert set(TaskOptions.__annotations__) == parameters


@pytest.mark.parametrize("mode", [None, "threads", "processes"])
def test_map_lets_each_task_fail_alone(mode: str | None) -> None:
    """Each has an entry, and what needs another one's result gets it."""
    tasks = Task.map("inverse", partial(pow, exp=-1), [2, 0, 4])
    after = [Task(f"after-{task.name}", str, dependencies=[TaskDependency(task.name, True)]) for task in tasks]
    report = Process([*tasks, *after]).run(mode)
    assert list(report.errored) == ["inverse[1]"]
    assert list(report.skipped) == ["after-inverse[1]"]
    assert [report.entries[f"after-inverse[{number}]"].result for number in (0, 2)] == ["0.5", "0.25"]
