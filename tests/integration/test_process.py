"""Process: what its constructor checks, the order of its tasks, look-ups, the context manager."""

import enum
import logging
from pathlib import Path
from typing import Any

import pytest

from processes import (
    CircularDependencyError,
    DependencyNotFoundError,
    Process,
    Task,
    TaskDependency,
    TaskNotFoundError,
    TaskStatus,
)


def task(name: str, *wants: str, **parts: Any) -> Task:  # noqa: ANN401  Task's own
    """A task that waits for these."""
    return Task(name, len, args=("1",), dependencies=[TaskDependency(wanted) for wanted in wants], **parts)


def names(tasks: list[Task]) -> list[str]:
    return [task.name for task in tasks]


# ---- construction ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [None, (), {"a": 1}, "abc", (task("a"),)])
def test_process_refuses_what_is_no_list(tasks: Any) -> None:  # noqa: ANN401  a wrong type is the point
    """F2: the error is a TypeError about the list."""
    with pytest.raises(TypeError, match=f"tasks must be list. Got {type(tasks)}"):
        Process(tasks)


@pytest.mark.parametrize("element", ["x", None, 1])
def test_process_refuses_what_is_no_task(element: Any) -> None:  # noqa: ANN401  a wrong type is the point
    """F2: the error is a TypeError about the element."""
    with pytest.raises(TypeError, match=f"task must be Task. Got {type(element)}"):
        Process([task("a"), element])


@pytest.mark.parametrize(("first", "second"), [("a", "A"), ("straße", "STRASSE")])
def test_process_refuses_two_tasks_of_one_name(first: str, second: str) -> None:
    """Names are compared without case."""
    with pytest.raises(ValueError, match=f"Duplicate task name: {second.lower()}"):
        Process([task(first), task(second)])


def test_process_refuses_missing_dependencies_and_names_all() -> None:
    """The first task in the list that misses one gives the error its fields; the message has every gap."""
    with pytest.raises(DependencyNotFoundError) as caught:
        Process([task("a", "b"), task("b", "Gone"), task("c", "lost", "a"), task("d", "gone", "far")])
    error = caught.value
    assert (error.task_name, error.missing_dep) == ("b", "gone")
    assert error.missing == (("b", "gone"), ("c", "lost"), ("d", "gone"), ("d", "far"))
    assert str(error).startswith("Task 'b' depends on missing task: 'gone'")
    assert "Task 'c' depends on missing task: 'lost'" in str(error)
    assert "Task 'd' depends on missing task: 'far'" in str(error)


def test_process_refuses_one_missing_dependency_in_the_old_words() -> None:
    """6.1: with one gap the message is that of 7.0.4."""
    with pytest.raises(DependencyNotFoundError) as caught:
        Process([task("a", "b")])
    assert str(caught.value) == "Task 'a' depends on missing task: 'b'"


def test_process_refuses_a_circle_and_shows_it() -> None:
    """F1: the message has the tasks of the circle, each waiting for the next, and no others."""
    circle = [task("x", "y"), task("y", "z"), task("z", "x")]
    with pytest.raises(CircularDependencyError, match=r"Circular dependency detected\.") as caught:
        Process([*(task(f"t{n}") for n in range(20)), *circle, task("behind", "x")])
    told = str(caught.value)
    assert any(f"{way}." in told for way in ("x -> y -> z -> x", "y -> z -> x -> y", "z -> x -> y -> z"))
    assert "t1" not in told
    assert "behind" not in told


def test_process_refuses_duplicates_before_gaps_before_circles() -> None:
    """The checks come in this order."""
    circle = [task("x", "y"), task("y", "x")]
    with pytest.raises(ValueError, match="Duplicate task name: x"):
        Process([*circle, task("z", "gone"), task("x")])
    with pytest.raises(DependencyNotFoundError):
        Process([*circle, task("z", "gone")])


@pytest.mark.parametrize(
    "others",
    [[task("log")], [task("b", "gone")], [task("x", "y"), task("y", "x")]],
    ids=["duplicate", "gap", "circle"],
)
def test_process_that_is_refused_closes_logs_and_lets_its_tasks_be_used_again(
    others: list[Task], tmp_path: Path
) -> None:
    """C3: handlers are detached; a new Process of the same tasks logs."""
    logged = task("log", log_path=tmp_path / "a.log")
    logged.logger.addHandler(logging.NullHandler())
    with pytest.raises((ValueError, DependencyNotFoundError, CircularDependencyError)):
        Process([logged, *others])
    assert logged.logger.handlers == []
    with Process([logged]) as process:
        process.run()
    assert len((tmp_path / "a.log").read_text(encoding="utf-8").splitlines()) == 2


def test_process_that_is_refused_for_a_wrong_type_closes_logs(tmp_path: Path) -> None:
    """7.3: every failed construction detaches the handlers of the tasks it was given."""
    logged = task("log", log_path=tmp_path / "a.log")
    elements: list[Any] = [logged, "x"]
    with pytest.raises(TypeError, match="task must be Task"):
        Process(elements)
    assert logged.logger.handlers == []


def test_process_runner_run_returns_the_report() -> None:
    """7.9: as in 7.0.4, the same as `Process.run` does."""
    made: Any = Process([task("a")], "named").runner.run(False, 4)
    assert (made.process_name, list(made.successes)) == ("named", ["a"])


def test_process_has_a_name_of_any_kind() -> None:
    """The name is kept as it is, and empty if none is given."""
    assert Process([]).name == ""
    assert Process([], "Nightly Load").name == "Nightly Load"
    assert Process([], None).name is None  # type: ignore[arg-type]


def test_process_runner_is_pending_before_a_run() -> None:
    """7.9: `runner` knows the process, and that nothing has run."""
    process = Process([task("a"), task("b")])
    assert process.runner.process is process
    assert {name: outcome.status for name, outcome in process.runner.results.items()} == {
        "a": TaskStatus.PENDING,
        "b": TaskStatus.PENDING,
    }
    assert process.runner.submitted_tasks == set()


@pytest.mark.parametrize("parallel", [False, "threads"])
def test_process_runner_runs(parallel: bool | str) -> None:
    """7.9: `runner.run` runs the process and has the results."""
    process = Process([task("a")])
    report = process.runner.run(parallel, 1)
    assert report.entries["a"].result == 1
    assert process.runner.results["a"].result == 1


def test_process_runner_holds_what_its_own_run_gave() -> None:
    """7.9: the runner that ran has the results, also for one who kept it."""
    runner = Process([task("a")]).runner
    runner.run(False, 1)
    assert runner.results["a"].status is TaskStatus.SUCCESS
    assert runner.submitted_tasks == {"a"}


# ---- order ----------------------------------------------------------------------------------------------------------


def test_process_orders_its_tasks_and_leaves_the_list_alone() -> None:
    """Roots as given, then each task when its last dependency has been placed."""
    given = [task("d", "b", "c"), task("b", "a"), task("c", "a"), task("a"), task("e")]
    before = list(given)
    process = Process(given)
    assert names(process.tasks) == ["a", "e", "b", "c", "d"]
    assert given == before
    assert isinstance(process.tasks, list)
    assert process.tasks is not given


def test_process_orders_by_when_the_last_dependency_is_placed() -> None:
    """A task comes behind those whose last dependency was placed earlier, whatever their depth."""
    process = Process(
        [
            task("late", "a", "c"),
            task("a"),
            task("b"),
            task("c", "b"),
            task("early", "a"),
            task("own-pace", "early"),
        ]
    )
    assert names(process.tasks) == ["a", "b", "early", "c", "own-pace", "late"]


def test_process_takes_a_deep_chain() -> None:
    """Order, look-ups and runs do not recurse."""
    depth = 3000
    tasks = [task(str(n), *([str(n - 1)] if n else [])) for n in reversed(range(depth))]
    process = Process(tasks)
    assert names(process.tasks) == [str(n) for n in range(depth)]
    assert len(process.get_dependant_tasks("0")) == depth - 1
    assert len(process.run().successes) == depth


# ---- look-ups -------------------------------------------------------------------------------------------------------


def test_process_finds_a_task_in_any_case() -> None:
    """F3: look-ups fold case, as names do."""
    first, second = task("Fetch"), task("straße")
    process = Process([first, second])
    assert process.get_task("fetch") is process.get_task("FETCH") is first
    assert process.get_task("STRASSE") is second


def test_process_says_which_task_it_does_not_find() -> None:
    """The error has the name asked for."""
    with pytest.raises(TaskNotFoundError, match="Task not found: 'Nope'") as caught:
        Process([task("a")]).get_task("Nope")
    assert caught.value.task_name == "Nope"


def test_process_finds_dependants_breadth_first() -> None:
    """Direct dependants first, each once, without the task itself; none of an unknown name."""
    process = Process(
        [
            task("a"),
            task("b", "a"),
            task("d", "b", "c"),
            task("c", "a"),
            task("e", "d"),
            task("f"),
            task("x", "b"),
        ]
    )
    assert names(process.get_dependant_tasks("A")) == ["b", "c", "d", "x", "e"]
    assert process.get_dependant_tasks("f") == []
    assert process.get_dependant_tasks("nope") == []


def test_process_matches_dependencies_without_case() -> None:
    """0.6: a dependency finds its task by casefold, not only by lower case."""
    process = Process([task("b", "STRASSE"), task("straße")])
    assert names(process.tasks) == ["straße", "b"]
    assert list(process.run().successes) == ["straße", "b"]


# ---- context manager ------------------------------------------------------------------------------------------------


def test_process_closes_logs_at_the_end_of_a_block(tmp_path: Path) -> None:
    """`with` gives the process, and detaches all handlers at its end; closing again does no harm."""
    made = task("a", log_path=tmp_path / "a.log")
    process = Process([made])
    with process as entered:
        assert entered is process
        process.run()
        assert made.logger.handlers != []
    assert made.logger.handlers == []
    process.close_loggers()


def test_process_passes_on_what_its_block_raises(tmp_path: Path) -> None:
    """An exception in the block closes the logs and goes on."""
    made = task("a", log_path=tmp_path / "a.log")
    with pytest.raises(KeyError), Process([made]):
        raise KeyError
    assert made.logger.handlers == []


class Step(enum.StrEnum):
    """Names that are no plain texts, and hash by other ones."""

    LOAD = "load"
    SAVE = "save"


def test_names_may_be_of_an_enum_of_texts() -> None:
    """Whoever names a task by a member finds it by the member and by its text."""
    wants = TaskDependency(Step.LOAD, use_result_as_additional_args=True)
    process = Process([Task(Step.SAVE, str, dependencies=[wants]), Task(Step.LOAD, int)])
    assert [(task.name, type(task.name)) for task in process.tasks] == [("load", str), ("save", str)]
    assert process.get_task(Step.SAVE) is process.get_task("save")
    assert [task.name for task in process.get_dependant_tasks(Step.LOAD)] == ["save"]
    assert process.run().entries["save"].result == "0"
