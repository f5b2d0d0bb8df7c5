"""What many tasks and many batches cost, counted in work, descriptors and objects: never in time."""

import gc
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import Process, Task, TaskDependency
from support.work import growth, lines_run

#: Work for a problem four times as large: 4 where it grows with the size, 16 where it grows with its square.
LINEAR_MAX = 6.0


def chain(count: int) -> list[Task]:
    """Tasks that wait for each other in a row."""
    return [Task(f"t{n}", int, dependencies=[TaskDependency(f"t{n - 1}")] if n else []) for n in range(count)]


def alone(count: int) -> list[Task]:
    """Tasks that wait for nothing."""
    return [Task(f"t{n}", int) for n in range(count)]


def fan(count: int) -> list[Task]:
    """One task that waits for all others."""
    names = [f"t{n}" for n in range(count)]
    return [Task("last", int, dependencies=[TaskDependency(name) for name in names]), *alone(count)]


def fail() -> None:
    raise ValueError


def failing(count: int) -> list[Task]:
    """A chain whose first task fails."""
    return [Task("t0", fail), *chain(count)[1:]]


GRAPHS = [chain, alone, fan, failing]


def run_batch(mode: str | None, folder: Path) -> None:
    """Tasks that log to one file and to files of their own, one of them failing."""
    tasks = [
        Task("bad", fail, folder / "all.log"),
        *(Task(f"shared-{n}", int, folder / "all.log") for n in range(10)),
        *(Task(f"own-{n}", int, folder / f"{n}.log") for n in range(10)),
    ]
    with Process(tasks) as process:
        assert len(process.run(mode).successes) == 20


def batches(mode: str | None) -> int:
    """How many show a leak: a run in children takes a quarter of a second."""
    return 2 if mode == "processes" else 20


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- B1, B2: loggers ------------------------------------------------------------------------------------------------


def test_tasks_do_not_touch_other_loggers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """B1: to make a task, and its logger, sweeps no cache of the loggers that there are."""
    sweeps: list[logging.Manager] = []

    def count(manager: logging.Manager) -> None:
        sweeps.append(manager)

    monkeypatch.setattr(logging.Manager, "_clear_cache", count)
    tasks = [Task(f"t{n}", int, tmp_path / "a.log") for n in range(20)]
    assert all(task.logger.handlers for task in tasks)
    assert sweeps == []
    logging.getLogger("processes").setLevel(logging.NOTSET)  # The count would see one.
    assert len(sweeps) == 1


@pytest.mark.parametrize("logs", [False, True])
def test_task_costs_as_much_as_the_first(logs: bool, tmp_path: Path) -> None:
    """B1: however many tasks there are already, the next ones are made with as much work as the first."""
    path = tmp_path / "a.log" if logs else None

    def make(count: int) -> list[Task]:
        tasks = [Task(f"t{n}", int, path) for n in range(count)]
        assert all(task.logger.handlers for task in tasks)
        return tasks

    kept = make(1)  # What is done once only must not count: it keeps the logfile's handler too.
    first = lines_run(lambda: make(10))
    kept += make(500)
    assert lines_run(lambda: make(10)) == first


def test_batches_cost_as_much_as_the_first() -> None:
    """B2: a batch does no more work because of those that ran before it."""

    def batch() -> None:
        with Process(alone(30)) as process:
            process.run()

    batch()  # What is done once only must not count.
    first = lines_run(batch)
    for _ in range(30):
        batch()
    assert lines_run(batch) == first


def test_batches_leave_nothing_in_logging(mode: str | None, tmp_path: Path) -> None:
    """B2: after many batches logging knows the loggers and handlers that it knew before."""
    run_batch(mode, tmp_path)
    gc.collect()
    names, handlers = set(logging.root.manager.loggerDict), len(logging._handlerList)  # type: ignore[attr-defined]  # all
    for _ in range(batches(mode)):
        run_batch(mode, tmp_path)
    gc.collect()
    assert set(logging.root.manager.loggerDict) == names
    assert len(logging._handlerList) == handlers  # type: ignore[attr-defined]  # all there are


def test_batches_leave_no_objects(mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B2: what a batch made is gone with it; one object left by each batch would show."""
    with monkeypatch.context() as patch:
        patch.setattr(logging.root, "handlers", [])  # pytest's own keep every record.
        for _ in range(3):
            run_batch(mode, tmp_path)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(batches(mode)):
            run_batch(mode, tmp_path)
        gc.collect()
        left = len(gc.get_objects()) - before
    assert left < batches(mode)


def test_batches_leave_no_pattern_in_the_cache_of_re() -> None:
    """B2: the cache is the program's; what the library puts there drives out what the program needs."""

    def cached() -> int:
        gc.collect()
        return len([made for made in gc.get_objects() if isinstance(made, re.Pattern)])

    re.purge()  # A full cache would drop one for each that is added.
    Process(alone(5)).run("processes", 2)
    before = cached()
    Process(alone(5)).run("processes", 2)
    assert cached() == before


# ---- B3: running ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", GRAPHS)
def test_run_costs_as_much_as_it_has_tasks(mode: str | None, tasks: Callable[[int], list[Task]]) -> None:
    """B3: four times as many tasks are four times the work, whatever the graph."""

    def work(count: int) -> Callable[[], object]:
        process = Process(tasks(count))
        return lambda: process.run(mode, 2)

    assert growth(work, 60) < LINEAR_MAX


@pytest.mark.parametrize("tasks", GRAPHS)
def test_process_costs_as_much_as_it_has_tasks(tasks: Callable[[int], list[Task]]) -> None:
    """B3: so is the check of the graph."""

    def work(count: int) -> Callable[[], object]:
        made = tasks(count)
        return lambda: Process(made)

    assert growth(work, 60) < LINEAR_MAX


# ---- B4: descriptors ------------------------------------------------------------------------------------------------


def test_tasks_that_share_a_logfile_share_its_handler(mode: str | None, tmp_path: Path) -> None:
    """B4: one open file for all of them, in a run too, and none before anything is logged or after the block."""
    seen: list[int] = []

    class Looker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(sum(path == str(tmp_path / "a.log") for path in open_files()))

    path = tmp_path / "a.log"
    before = descriptors()
    tasks = [Task(f"t{n}", int, path) for n in range(200)]
    assert descriptors() == before
    assert len({id(handler) for task in tasks for handler in task.logger.handlers}) == 1
    tasks[-1].logger.addHandler(Looker())
    with Process(tasks) as process:
        assert len(process.run(mode).successes) == 200
        seen.append(sum(path == str(tmp_path / "a.log") for path in open_files()))
    # While a record is handed on its file need not be open yet: lines are written some at a time.
    assert max(seen) == 1
    assert descriptors() == before
    assert len(path.read_text(encoding="utf-8").splitlines()) == 400


def test_tasks_with_logfiles_of_their_own_do_not_hold_all_open(mode: str | None, tmp_path: Path) -> None:
    """B4: a file whose task has ended needs no descriptor: there may be more tasks than descriptors."""
    most = 0

    class Looker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal most
            most = max(most, sum(path.startswith(str(tmp_path)) for path in open_files()))

    tasks = [Task(f"t{n}", int, tmp_path / f"{n}.log") for n in range(200)]
    tasks[-1].logger.addHandler(Looker())
    with Process(tasks) as process:
        process.run(mode, 2)
        most = max(most, sum(path.startswith(str(tmp_path)) for path in open_files()))
    assert 0 < most < 100


def open_files() -> list[str]:
    """What this process's descriptors are open on."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # That of the listing itself.
            continue
    return found


# ---- B5: changing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [chain, alone])
def test_adding_tasks_costs_as_much_as_there_are(tasks: Callable[[int], list[Task]]) -> None:
    """B5: each is checked by itself; the tasks that are there already are not checked again."""

    def work(count: int) -> Callable[[], object]:
        process, added = Process([]), tasks(count)

        def add() -> None:
            for task in added:
                process.add_task(task)

        return add

    assert growth(work, 60) < LINEAR_MAX


class Counted(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str(self) == other

    __hash__ = str.__hash__

    def casefold(self) -> "Counted":
        return self


def test_task_with_many_dependencies_compares_each_name_once() -> None:
    """B5: a name that is there twice is found without comparing all with all."""
    count = 200
    wants = [TaskDependency("x") for _ in range(count)]
    for number, wanted in enumerate(wants):
        wanted.task_name = Counted(f"t{number}")
    Counted.compared = 0
    Task("a", int, dependencies=wants)
    assert Counted.compared <= 2 * count
    wants[-1].task_name = Counted("t0")
    with pytest.raises(ValueError, match="Duplicate dependency name: t0"):
        Task("a", int, dependencies=wants)
    assert Counted.compared > 0
