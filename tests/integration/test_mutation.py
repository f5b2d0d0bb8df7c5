"""A Process that is changed: what is checked, what stays as it was when the change is refused."""

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


@pytest.fixture
def process() -> Process:
    """A chain a, b, c that has run, and a task alone."""
    process = Process([task("c", "b"), task("b", "a"), task("a"), task("alone")])
    process.run()
    return process


def order(process: Process) -> list[str]:
    return [task.name for task in process.tasks]


def is_fresh(process: Process) -> bool:
    """Whether its runner knows the tasks, and that none has run."""
    statuses = {name: outcome.status for name, outcome in process.runner.results.items()}
    return statuses == dict.fromkeys(order(process), TaskStatus.PENDING)


class Unchanged:
    """Checks at its end that a process is as it was, with the same runner, and runs."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.runner = process.runner
        self.tasks = process.tasks
        self.wants = {task.name: list(task.dependencies) for task in process.tasks}
        self.dependants = self._dependants()

    def _dependants(self) -> dict[str, list[Task]]:
        return {name: self.process.get_dependant_tasks(name) for name in self.wants}

    def check(self) -> None:
        assert self.process.runner is self.runner
        assert self.process.tasks == self.tasks
        assert {task.name: task.dependencies for task in self.process.tasks} == self.wants
        assert self._dependants() == self.dependants
        assert all(outcome.worked for outcome in self.runner.results.values())
        assert list(self.process.run().successes) == list(self.wants)


# ---- add_task -------------------------------------------------------------------------------------------------------


def test_add_task_takes_its_place_in_the_order(process: Process) -> None:
    """The new task is sorted in, and the next run starts from nothing."""
    before = process.runner
    process.add_task(task("d", "A", "c"))
    process.add_task(task("root"))
    assert order(process) == ["a", "alone", "root", "b", "c", "d"]
    assert process.runner is not before
    assert is_fresh(process)
    assert list(process.run().successes) == order(process)


@pytest.mark.parametrize(
    ("added", "error", "message"),
    [
        ("x", TypeError, "task must be Task. Got <class 'str'>"),
        (task("B"), ValueError, "Duplicate task name: b"),
        (task("d", "a", "gone"), DependencyNotFoundError, "Task 'd' depends on missing task: 'gone'"),
        (task("d", "Straße"), DependencyNotFoundError, "Task 'd' depends on missing task: 'straße'"),
    ],
)
def test_add_task_that_is_refused_changes_nothing(
    process: Process,
    added: Any,  # noqa: ANN401  anything may be passed
    error: type[Exception],
    message: str,
) -> None:
    """Type, name and dependencies are checked; then the process is as before, and runs."""
    unchanged = Unchanged(process)
    with pytest.raises(error) as caught:
        process.add_task(added)
    assert str(caught.value) == message
    unchanged.check()


def test_add_task_refuses_one_that_waits_for_itself(process: Process) -> None:
    """A task renamed to what it waits for is a circle."""
    unchanged = Unchanged(process)
    added = task("d", "e")
    added.name = "e"
    with pytest.raises(CircularDependencyError, match=r"Circular dependency detected\."):
        process.add_task(added)
    unchanged.check()


def test_add_task_that_is_refused_can_log_elsewhere(process: Process, tmp_path: Path) -> None:
    """8.1: the rejected task's log is not closed, and works in another process."""
    added = task("a", log_path=tmp_path / "a.log")
    with pytest.raises(ValueError, match="Duplicate"):
        process.add_task(added)
    assert added.logger.handlers != []
    with Process([added]) as other:
        other.run()
    assert len((tmp_path / "a.log").read_text(encoding="utf-8").splitlines()) == 2


# ---- remove_task ----------------------------------------------------------------------------------------------------


def test_remove_task_takes_it_out_and_closes_its_log(process: Process, tmp_path: Path) -> None:
    """In any case of its name; its handlers are detached, and the next run starts from nothing."""
    logged = task("logged", "a", log_path=tmp_path / "a.log")
    process.add_task(logged)
    assert logged.logger.handlers != []
    process.remove_task("LOGGED")
    assert logged.logger.handlers == []
    assert order(process) == ["a", "alone", "b", "c"]
    assert is_fresh(process)
    with pytest.raises(TaskNotFoundError):
        process.get_task("logged")


def test_remove_task_lets_go_what_it_waited_for(process: Process) -> None:
    """From the end, a whole chain can be removed; an equal one can be added again."""
    for name in ("c", "b", "a"):
        process.remove_task(name)
    assert order(process) == ["alone"]
    process.add_task(task("a"))
    assert list(process.run().successes) == ["alone", "a"]


def test_remove_task_refuses_what_others_need(process: Process) -> None:
    """It names all that depend on it, directly or not, sorted."""
    process.add_task(task("aa", "c"))
    process.run()
    unchanged = Unchanged(process)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the message is compared below
        process.remove_task("a")
    assert str(caught.value) == (
        "Cannot remove task 'a': still required by aa, b, c. Remove the dependent task(s) first."
    )
    unchanged.check()


def test_remove_task_refuses_an_unknown_name(process: Process) -> None:
    """There is none of that name."""
    unchanged = Unchanged(process)
    with pytest.raises(TaskNotFoundError, match="Task not found: 'nope'"):
        process.remove_task("nope")
    unchanged.check()


# ---- add_task_dependency --------------------------------------------------------------------------------------------


def test_add_task_dependency_reorders(process: Process) -> None:
    """The dependency joins the task's own list and the order; the next run starts from nothing."""
    wanted = TaskDependency("C")
    process.add_task_dependency("Alone", wanted)
    assert order(process) == ["a", "b", "c", "alone"]
    assert process.get_task("alone").dependencies == [wanted]
    assert [task.name for task in process.get_dependant_tasks("a")] == ["b", "c", "alone"]
    assert is_fresh(process)
    assert list(process.run().successes) == order(process)


def test_add_task_dependency_passes_its_result() -> None:
    """A dependency added later injects as any other."""
    process = Process([task("a"), Task("b", lambda *args: args)])
    process.add_task_dependency("b", TaskDependency("a", True))
    assert process.run().entries["b"].result == (1,)


@pytest.mark.parametrize(
    ("name", "dependency", "error", "message"),
    [
        ("nope", "a", TypeError, "dependency must be of type TaskDependency. Got <class 'str'>"),
        ("nope", TaskDependency("gone"), TaskNotFoundError, "Task not found: 'nope'"),
        ("b", TaskDependency("a"), ValueError, "Task 'b' already depends on 'a'."),
        ("b", TaskDependency("A", True), ValueError, "Task 'b' already depends on 'a'."),
        ("b", TaskDependency("gone"), DependencyNotFoundError, "Task 'b' depends on missing task: 'gone'"),
        ("a", TaskDependency("c"), CircularDependencyError, "Circular dependency detected."),
        ("a", TaskDependency("a"), CircularDependencyError, "Circular dependency detected."),
    ],
)
def test_add_task_dependency_that_is_refused_changes_nothing(
    process: Process,
    name: str,
    dependency: Any,  # noqa: ANN401  anything may be passed
    error: type[Exception],
    message: str,
) -> None:
    """The checks come in this order; a refused dependency is in no list, and the process runs."""
    unchanged = Unchanged(process)
    with pytest.raises(error) as caught:
        process.add_task_dependency(name, dependency)
    assert str(caught.value).startswith(message)
    unchanged.check()


def test_add_task_dependency_shows_the_circle_it_would_close(process: Process) -> None:
    """F1: the message has the tasks of the circle."""
    with pytest.raises(CircularDependencyError) as caught:
        process.add_task_dependency("a", TaskDependency("c"))
    assert any(way in str(caught.value) for way in ("a -> c -> b -> a", "c -> b -> a -> c", "b -> a -> c -> b"))


# ---- behind its back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [None, "threads", "processes"])
@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("b", CircularDependencyError, "Circular dependency detected."),
        ("gone", DependencyNotFoundError, "Task 'a' depends on missing task: 'gone'"),
    ],
)
def test_run_refuses_a_graph_that_was_broken_behind_its_back(
    process: Process, parallel: str | None, wanted: str, error: type[Exception], message: str
) -> None:
    """9.8: a task's own list of dependencies can be appended to; a circle does not keep the run waiting for ever."""
    dependencies = process.get_task("a").dependencies
    dependencies.append(TaskDependency(wanted))
    for act in (process.run, process.check):
        with pytest.raises(error) as caught:
            act(parallel)
        assert str(caught.value).startswith(message)
    dependencies.clear()
    assert list(process.run(parallel).successes) == ["a", "alone", "b", "c"]


@pytest.mark.parametrize("parallel", [None, "threads", "processes"])
def test_run_orders_anew_what_was_changed_behind_its_back(process: Process, parallel: str | None) -> None:
    """9.8: it waits for what was appended; order and look-ups follow."""
    process.get_task("a").dependencies.append(TaskDependency("Alone"))
    assert list(process.run(parallel, 1).successes) == order(process) == ["alone", "a", "b", "c"]
    assert [task.name for task in process.get_dependant_tasks("alone")] == ["a", "b", "c"]
