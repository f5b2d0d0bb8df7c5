"""`Process.check` and what `run` refuses: everything that can be known before anything has run."""

import functools
import pickle
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import (
    Process,
    ProcessPool,
    Task,
    TaskCheckError,
    TaskDependency,
    UnpicklableError,
)
from processes.launch import Launcher
from support.pools import START_METHODS

EVERY_WAY = [None, "threads", "processes", *(ProcessPool(start_method=method) for method in START_METHODS)]
every_way = pytest.mark.parametrize("way", EVERY_WAY, ids=str)


def add(left: int, right: int) -> int:
    return left + right


def no_arguments() -> None:
    pass


def anything(*parts: object, **named: object) -> object:
    return parts, named


def takes(name: str, keyword: str = "") -> TaskDependency:
    return TaskDependency(name, not keyword, bool(keyword), keyword)


def problems_of(process: Process, way: Any = "processes") -> list[Exception]:  # noqa: ANN401  as `run` takes it
    """What `check` finds."""
    with pytest.raises(ExceptionGroup) as caught:
        process.check(way)
    problems = list(caught.value.exceptions)
    assert str(len(problems)) in caught.value.message
    return problems


def paths_of(*tasks: Task) -> list[str]:
    """Where in their values the parts are that cannot be pickled."""
    problems = problems_of(Process(list(tasks)))
    found = []
    for problem in problems:
        assert isinstance(problem, UnpicklableError)
        found.append(f"{problem.task_name} {problem.what} {problem.path} {problem.kind}")
    return found


# ---- what is well ----------------------------------------------------------------------------------------------------


@every_way
def test_process_without_problems_passes(way: Any, tmp_path: Path) -> None:  # noqa: ANN401  as `run` takes it
    """In every mode, and nothing has run."""
    ran = tmp_path / "ran"
    tasks = [
        Task("touch", ran.touch, tmp_path / "touch.log", timeout=1.0),
        Task("add", add, args=(1,), dependencies=[takes("touch")]),
        Task("named", add, args=(1,), dependencies=[takes("touch", "right")]),
        Task("replaced", add, args=(1,), kwargs={"right": 2}, dependencies=[takes("touch", "right")]),
        Task("builtin", len, args=((1,),), retry_delay=float),
        Task("anything", anything, args=(1, 2), kwargs={"three": 3}),
    ]
    with Process(tasks) as process:
        process.check(way)
    assert not ran.exists()


def test_check_is_quick_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tasks; neither a process nor a thread is there at any time, nor a descriptor afterwards."""
    monkeypatch.setattr(Launcher, "_start", lambda self: pytest.fail("a process was started"))
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread was started"))
    tasks = [Task("t0", add, args=(0, {"some": ["data"] * 10}))]
    tasks += [Task(f"t{n}", add, args=(n,), dependencies=[takes(f"t{n - 1}")]) for n in range(1, 1000)]
    process = Process(tasks)
    before = psutil.Process().num_fds()
    process.check()
    assert psutil.Process().num_fds() == before


def test_check_refuses_what_run_refuses() -> None:
    """A mode that there is not, and a number that is none."""
    with pytest.raises(ValueError, match="parallel must be"):
        Process([]).check("fibers")
    with pytest.raises(TypeError, match="max_workers"):
        Process([]).check(max_workers="2")  # type: ignore[arg-type]  # the point


# ---- what does not pickle --------------------------------------------------------------------------------------------


class Db:
    def __init__(self) -> None:
        self.name = "db"
        self._lock = threading.Lock()


class Config:
    def __init__(self) -> None:
        self.db = Db()


class Slotted:
    __slots__ = ("lock", "name")

    def __init__(self) -> None:
        self.name = "slotted"
        self.lock = threading.Lock()


class Cyclic:
    def __init__(self) -> None:
        self.child: dict[str, object] = {"parent": self}
        self.lock = threading.Lock()


class LeavesItsLockOut:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows: object = iter(())

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}


class Refuses:
    def __reduce__(self) -> str:
        raise ValueError("not me")


class Exits:
    def __reduce__(self) -> str:
        raise SystemExit(3)


def count() -> Iterator[int]:
    yield 1


def read(cfg: object) -> object:
    return cfg


def test_lock_in_a_nested_object_is_found() -> None:
    """The error reads as its user would say it, and survives pickling."""
    (problem,) = problems_of(Process([Task("x", read, kwargs={"cfg": Config()})]))
    assert isinstance(problem, UnpicklableError)
    assert str(problem) == (
        "Task 'x', argument cfg.db._lock: a _thread.lock cannot be pickled; open it inside the task, "
        'or use parallel="threads".'
    )
    assert (problem.task_name, problem.what, problem.path) == ("x", "kwargs['cfg']", "cfg.db._lock")
    assert (problem.kind, problem.reason) == ("_thread.lock", "TypeError: cannot pickle '_thread.lock' object")
    assert str(pickle.loads(pickle.dumps(problem))) == str(problem)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (threading.Lock, ["cfg _thread.lock"]),
        (lambda: {"a": [1, (2, threading.Lock())]}, ["cfg['a'][1][1] _thread.lock"]),
        (lambda: {threading.Lock()}, ["cfg{<unlocked _thread.lock object"]),
        (Slotted, ["cfg.lock _thread.lock"]),
        (Cyclic, ["cfg.lock _thread.lock"]),
        (LeavesItsLockOut, []),
        (count, ["cfg generator"]),
        (lambda: [Db(), Db()], ["cfg[0]._lock _thread.lock", "cfg[1]._lock _thread.lock"]),
        (lambda: functools.partial(anything, Db(), cfg=Db()), ["cfg.args[0]._lock", "cfg.keywords['cfg']._lock"]),
        (lambda: threading.Lock().acquire, ["cfg.__self__ _thread.lock"]),
        (lambda: Config().db.__init__, ["cfg.__self__._lock _thread.lock"]),  # type: ignore[misc]  # a bound method
        (lambda: OSError("text", threading.Lock()), ["cfg.__reduce__()[1][1] _thread.lock"]),
        (Refuses, ["test_check.Refuses"]),
        (Exits, ["test_check.Exits"]),
    ],
)
def test_part_that_does_not_pickle_is_found(make: Callable[[], object], found: list[str]) -> None:
    """Wherever it is; what is left out of the pickle is not blamed."""
    task = Task("x", read, args=(make(),))
    if not found:
        Process([task]).check()
        return
    shown = paths_of(task)
    assert len(shown) == len(found)
    for path, expected in zip(shown, found, strict=True):
        assert path.startswith("x args[0] ")
        assert expected in path


def test_open_file_is_found(tmp_path: Path) -> None:
    """By its type, which says what it is."""
    with open(tmp_path / "file", "w", encoding="utf-8") as file:
        assert paths_of(Task("x", read, args=([file],))) == ["x args[0] cfg[0] _io.TextIOWrapper"]


def test_variables_of_functions_are_found() -> None:
    """What a lambda closes over, and what a function that goes by value uses of its module."""
    lock = threading.Lock()
    namespace: dict[str, Any] = {"__name__": "made_by_hand", "lock": lock}
    exec("def use(): return lock", namespace)  # noqa: S102  a function of no module
    shown = paths_of(
        Task("closure", lambda: lock),
        Task("method", Db().__init__),  # type: ignore[misc]  # a bound method
        Task("global", namespace["use"]),
        Task("default", lambda held=lock: held),
    )
    assert shown == [
        "closure function <lambda>.<closure>.lock _thread.lock",
        "method function __init__.__self__._lock _thread.lock",
        "global function use.<globals>.lock _thread.lock",
        "default function <lambda>.<default 0> _thread.lock",
    ]


def test_position_without_a_name_is_told_by_its_number() -> None:
    """Where the function takes any number of arguments, or does not say what it takes."""
    lock = threading.Lock()
    shown = paths_of(Task("a", print, args=(1, lock)), Task("b", dict.fromkeys, args=((), lock)))
    assert shown == ["a args[1] args[1] _thread.lock", "b args[1] value _thread.lock"]


def deep(levels: int) -> object:
    value: object = threading.Lock()
    for _ in range(levels):
        value = [value]
    return value


def test_search_is_bounded_in_depth() -> None:
    """Far down, the path ends somewhere on the way; nested too deeply to be pickled at all, there is none."""
    (path,) = paths_of(Task("x", read, args=(deep(100),)))
    assert path == f"x args[0] cfg{'[0]' * 20} list"
    (problem,) = problems_of(Process([Task("x", read, args=(deep(100_000),))]))
    assert isinstance(problem, UnpicklableError)
    assert problem.path == ""
    assert "recursion" in problem.reason


def test_search_is_bounded_in_width() -> None:
    """Far behind, the whole is blamed, in the pickler's words."""
    (problem,) = problems_of(Process([Task("x", read, args=([*range(20_000), threading.Lock()],))]))
    assert str(problem).startswith(
        "Task 'x', argument cfg: a list cannot be pickled (TypeError: cannot pickle '_thread.lock' object); open it"
    )


def test_search_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every problem is still there, without the path."""
    monkeypatch.setattr("processes.preflight._SEARCH_S", 0.0)
    problems = problems_of(Process([Task(f"t{n}", read, args=(Config(),)) for n in range(100)]))
    assert len(problems) == 100
    assert {problem.path for problem in problems if isinstance(problem, UnpicklableError)} == {""}


def test_initializer_of_the_pool_is_looked_at() -> None:
    """It belongs to no task."""
    pool = ProcessPool(initializer=read, initargs=(Db(),))
    (problem,) = problems_of(Process([]), pool)
    assert isinstance(problem, UnpicklableError)
    assert problem.path == "the pool's initializer[1][0]._lock"


def test_run_refuses_what_does_not_pickle_in_the_same_words(tmp_path: Path) -> None:
    """Before anything has run."""
    ran = tmp_path / "ran"
    process = Process([Task("first", ran.touch), Task("x", read, kwargs={"cfg": Config()})])
    with pytest.raises(ExceptionGroup) as caught:
        process.run("processes")
    assert list(map(str, caught.value.exceptions)) == list(map(str, problems_of(process)))
    assert not ran.exists()


@pytest.mark.parametrize("way", [None, "threads"])
def test_modes_that_share_memory_take_any_value(way: str | None) -> None:
    """Nothing is pickled there."""
    process = Process([Task("x", read, kwargs={"cfg": Config()})])
    process.check(way)
    assert len(process.run(way).successes) == 1


# ---- functions -------------------------------------------------------------------------------------------------------


def wrapping(function: Callable[..., object]) -> Callable[..., object]:
    """A decorator that passes an argument of its own."""

    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function("connection", *args)

    return wrapper


@wrapping
def with_connection(connection: str, number: int) -> tuple[str, int]:
    return connection, number


class Takes:
    def __init__(self, one: int) -> None: ...

    def method(self, one: int) -> None: ...

    def __call__(self, one: int, two: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "trouble"),
    [
        (add, (1,), "missing a required argument: 'right'"),
        (add, (1, 2, 3), "too many positional arguments"),
        (Takes, (), "missing a required argument: 'one'"),
        (Takes(1).method, (1, 2), "too many positional arguments"),
        (Takes(1), (1,), "missing a required argument: 'two'"),
        (functools.partial(add, 1), (1, 2), "too many positional arguments"),
        (functools.partial(add, 1, 2, 3), (), "incorrect arguments"),  # type: ignore[call-arg]  # the point
        (lambda: None, (1,), "too many positional arguments"),
        (len, (), "missing a required argument: 'obj'"),
        (with_connection, (1,), ""),
        (print, (1, 2, 3), ""),
        (max, (1, 2, 3), ""),
        (dict, (1, 2, 3), ""),
    ],
)
@every_way
def test_function_that_cannot_take_its_arguments_is_found(
    way: Any,  # noqa: ANN401  as `run` takes it
    function: Callable[..., object],
    args: tuple[object, ...],
    trouble: str,
) -> None:
    """Of whatever can be called; a wrapper is taken by its own word, and what does not say what it takes is let be."""
    process = Process([Task("x", function, args=args)])
    if not trouble:
        process.check(way)
        return
    (problem,) = problems_of(process, way)
    assert isinstance(problem, TaskCheckError)
    assert (problem.task_name, problem.what) == ("x", "func")
    assert trouble in str(problem)


def test_results_of_dependencies_are_counted_in() -> None:
    """By position and by name; the error says whose they are."""
    first = Task("first", int)
    first_too = Task("first_too", int)
    tasks = [
        first,
        first_too,
        Task("many", add, args=(1,), dependencies=[takes("first"), takes("first_too")]),
        Task("unknown", add, args=(1, 2), dependencies=[takes("first", "third")]),
        Task("twice", add, args=(1,), dependencies=[takes("first"), takes("first_too", "left")]),
        Task("few", add, dependencies=[takes("first"), TaskDependency("first_too")]),
    ]
    problems = {problem.task_name: str(problem) for problem in problems_of(Process(tasks))}  # type: ignore[attr-defined]  # each has one
    assert problems == {
        "many": (
            "Task 'many': add cannot take what it would get, 3 positional and 0 keyword arguments, the results of "
            "'first', 'first_too' among them: too many positional arguments"
        ),
        "unknown": (
            "Task 'unknown': add cannot take what it would get, 2 positional and 1 keyword arguments, the results of "
            "'first' among them: got an unexpected keyword argument 'third'"
        ),
        "twice": (
            "Task 'twice': add cannot take what it would get, 2 positional and 1 keyword arguments, the results of "
            "'first', 'first_too' among them: multiple values for argument 'left'"
        ),
        "few": (
            "Task 'few': add cannot take what it would get, 1 positional and 0 keyword arguments, the results of "
            "'first' among them: missing a required argument: 'right'"
        ),
    }


def test_wrong_arguments_stay_the_tasks_own_failure_in_a_run(mode: str | None) -> None:
    """As 7.0.4 had it: other tasks run, and the task's log and report tell."""
    report = Process([Task("wrong", add), Task("right", int)]).run(mode)
    assert (list(report.errored), list(report.successes)) == (["wrong"], ["right"])


class Counts:
    def __call__(self) -> Iterator[int]:
        yield 1


async def count_slowly() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [count, count_slowly, Counts(), functools.partial(count), Counts().__call__])
@every_way
def test_generator_function_is_found(way: Any, function: Callable[..., object]) -> None:  # noqa: ANN401  as `run` takes it
    """Also behind a partial or as a callable object."""
    (problem,) = problems_of(Process([Task("x", function)]), way)
    assert isinstance(problem, TaskCheckError)
    assert (problem.task_name, problem.what) == ("x", "func")
    assert "is a generator function" in str(problem)


# ---- logs, limits, delays --------------------------------------------------------------------------------------------


@pytest.fixture
def lost_log(tmp_path: Path) -> Iterator[Process]:
    """Two tasks that log to a folder that is gone, and one whose log is fine."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log, other = folder / "a.log", tmp_path / "other.log"
    with Process([Task("a", int, log), Task("b", int, log), Task("c", int, other)]) as process:
        shutil.rmtree(folder)
        yield process


@every_way
def test_lost_log_folder_is_found(way: Any, lost_log: Process, tmp_path: Path) -> None:  # noqa: ANN401  as `run` takes it
    """Of each task that logs there."""
    problems = problems_of(lost_log, way)
    assert [getattr(problem, "task_name", "") for problem in problems] == ["a", "b"]
    assert {getattr(problem, "what", "") for problem in problems} == {"log_path"}
    assert str(problems[0]) == (f"Task 'a': the folder of its logfile is not there any more: {tmp_path / 'logs'}")


def test_run_refuses_a_lost_log_folder(mode: str | None, lost_log: Process) -> None:
    """Nobody would read what the tasks say; nothing has run."""
    with pytest.raises(TaskCheckError, match="Task 'a': the folder of its logfile"):
        lost_log.run(mode)
    assert {result.attempts for result in lost_log.runner.results.values()} == {0}


def test_removed_logfile_is_made_anew(mode: str | None, tmp_path: Path) -> None:
    """Its folder is there: nothing is lost."""
    with Process([Task("a", int, tmp_path / "a.log")]) as process:
        (tmp_path / "a.log").unlink()
        process.check(mode)
        process.run(mode)
    assert len((tmp_path / "a.log").read_text().splitlines()) == 2


def test_logfile_that_cannot_be_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could when the task was made."""
    with Process([Task("a", int, tmp_path / "a.log")]) as process:
        monkeypatch.setattr("os.access", lambda path, mode: False)  # Root may write anywhere.
        (problem,) = problems_of(process)
    assert "cannot be written" in str(problem)


def test_limit_that_the_mode_cannot_keep_is_found(local_mode: str | None) -> None:
    """By `check`, and by `run` before anything runs."""
    process = Process([Task("a", int), Task("b", int, memory_limit="1GiB"), Task("c", int, memory_limit="1GiB")])
    problems = problems_of(process, local_mode)
    assert [(getattr(problem, "task_name", ""), getattr(problem, "what", "")) for problem in problems] == [
        ("b", "memory_limit"),
        ("c", "memory_limit"),
    ]
    with pytest.raises(TaskCheckError, match="memory_limit") as caught:
        process.run(local_mode)
    assert (caught.value.task_name, caught.value.what) == ("b", "memory_limit")
    process.check("processes")


def test_delay_that_is_none_is_found() -> None:
    """Of each retry that there could be."""

    def delay(number: int) -> float:
        return [1.0, -1.0][number - 1]

    (problem,) = problems_of(Process([Task("a", int, retries=2, retry_delay=delay)]))
    assert isinstance(problem, TaskCheckError)
    assert (problem.task_name, problem.what) == ("a", "retry_delay")
    assert "must not be negative" in str(problem)


def test_fork_beside_threads_is_found() -> None:
    """The pool would refuse it."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        (problem,) = problems_of(Process([Task("a", int)]), ProcessPool(start_method="fork"))
    finally:
        release.set()
        thread.join()
    assert "threads" in str(problem)


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    """Of one task as well."""
    log = tmp_path / "logs" / "a.log"
    log.parent.mkdir()
    task = Task("bad", count, log, args=(threading.Lock(),), retries=1, retry_delay=lambda number: -1.0)
    with Process([task, Task("worse", add, kwargs={"left": threading.Lock()})]) as process:
        shutil.rmtree(log.parent)
        problems = problems_of(process)
    found = [(getattr(problem, "task_name", ""), getattr(problem, "what", "")) for problem in problems]
    assert found == [
        ("bad", "log_path"),
        ("bad", "func"),
        ("worse", "func"),
        ("bad", "retry_delay"),
        ("bad", "args[0]"),
        ("worse", "kwargs['left']"),
    ]
