"""Children of the pool: exact blame, their start, what reaches them, and what they may do."""

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from processes import (
    ErrorData,
    Process,
    ProcessExecutionReport,
    ProcessPool,
    Task,
    TaskDependency,
    UnpicklableError,
    WorkerCrashedError,
    WorkerStartError,
)
from processes.attempt import Call
from processes.backends.pool import PoolBackend
from processes.events import AttemptReturned, AttemptsSucceeded, AttemptStarted, StartAttempt
from support.notes import wait_for_file
from support.pools import every_method, failures, is_alive, pool, results, run

# ---- exact blame -----------------------------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


def close_descriptors() -> None:
    os.closerange(3, 1024)


def wreck_descriptors() -> None:
    """Every descriptor becomes something else."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2:
            with contextlib.suppress(OSError):
                os.dup2(null, descriptor)


def leave_at_times(number: int) -> int:
    if number % 100 == 50:
        os._exit(3)
    return number


@every_method
def test_crash_among_queued_attempts_is_blamed_exactly(method: str) -> None:
    """Of 10,000 instant tasks, several in each channel at once, exactly the 100 that end their worker fail."""
    report = run([Task(f"t{number}", leave_at_times, args=(number,)) for number in range(10_000)], pool(method))
    assert failures(report) == {f"t{number}": "WorkerCrashedError" for number in range(50, 10_000, 100)}
    assert results(report) == {f"t{number}": number for number in range(10_000) if number % 100 != 50}
    assert {entry.attempts for entry in report.entries.values()} == {1}


@pytest.mark.parametrize("sabotage", [close_descriptors, wreck_descriptors])
@every_method
def test_worker_without_descriptors_is_the_fault_of_its_task(method: str, sabotage: Callable[[], None]) -> None:
    """A task that closes or replaces the descriptors of its worker harms no other task."""
    tasks = [Task(f"square{number}", square, args=(number,)) for number in range(40)]
    tasks.insert(20, Task("sabotage", sabotage))
    report = run(tasks, pool(method))
    assert set(failures(report)) <= {"sabotage"}
    assert {name: result for name, result in results(report).items() if name != "sabotage"} == {
        f"square{number}": number * number for number in range(40)
    }


def fork_and_return() -> int:
    os.fork()
    return os.getpid()


@every_method
def test_task_that_forks_returns_once(method: str) -> None:
    """A task that comes back in two processes has the result of its worker, and the fork disturbs nobody."""
    tasks = [Task(f"fork{number}", fork_and_return) for number in range(10)]
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert results(report) == {name: entry.worker_pid for name, entry in report.entries.items()}


def crash_once(mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "second"


@every_method
def test_crash_is_retried_when_asked_for(method: str, tmp_path: Path) -> None:
    """`retry_on=(WorkerCrashedError,)` covers a crash, the default does not; each attempt is on record."""
    tasks = [
        Task("retried", crash_once, args=(tmp_path / "a",), retries=2, retry_on=(WorkerCrashedError,)),
        Task("not_retried", crash_once, args=(tmp_path / "b",), retries=2),
    ]
    report = run(tasks, pool(method))
    retried, failed = report.entries["retried"], report.entries["not_retried"]
    assert (retried.result, retried.attempts) == ("second", 2)
    assert [record.outcome.rpartition(".")[2] for record in retried.attempt_log] == ["WorkerCrashedError", "success"]
    assert "SIGSEGV" in retried.attempt_log[0].why
    assert (failures(report), failed.attempts) == ({"not_retried": "WorkerCrashedError"}, 1)


# ---- one blocked task ------------------------------------------------------------------------------------------------


def leave_mark(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    return number


def await_marks(folder: Path, count: int) -> int:
    """Blocks until all others have run."""
    give_up_at = time.monotonic() + 10
    while len(os.listdir(folder)) < count:
        if time.monotonic() > give_up_at:
            message = f"only {len(os.listdir(folder))} of {count} ran while this task did"
            raise TimeoutError(message)
        time.sleep(0.005)
    return count


@every_method
def test_long_attempt_holds_nothing_up(method: str, tmp_path: Path) -> None:
    """What lies in the channel behind an attempt that has run long is taken back: all others end while it runs."""
    tasks = [Task(f"t{number}", leave_mark, args=(tmp_path, number)) for number in range(200)]
    tasks.insert(100, Task("blocked", await_marks, args=(tmp_path, 200)))
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert results(report) == {"blocked": 200, **{f"t{number}": number for number in range(200)}}
    assert {entry.attempts for entry in report.entries.values()} == {1}


@every_method
def test_long_attempts_on_all_workers_hold_nothing_up(method: str, tmp_path: Path) -> None:
    """Also where every worker is at a long attempt for a while, nothing is left behind the one that stays."""
    tasks = [Task(f"t{number}", leave_mark, args=(tmp_path, number)) for number in range(200)]
    for place in range(90, 150, 10):
        tasks.insert(place, Task(f"slow{place}", time.sleep, args=(0.03,)))
    tasks.insert(100, Task("blocked", await_marks, args=(tmp_path, 200)))
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert {entry.attempts for entry in report.entries.values()} == {1}


# ---- workers and keepers that die ------------------------------------------------------------------------------------


def note_own_pid(folder: Path) -> int:
    (folder / "pid").write_text(str(os.getpid()))
    return os.getpid()


def kill_idle_worker(folder: Path) -> None:
    """Kills the worker of the other task when the parent has taken note that it finished, and waits for its end."""
    while not (folder / "finished").exists():
        time.sleep(0.005)
    pid = int((folder / "pid").read_text())
    os.kill(pid, signal.SIGKILL)
    while os.path.exists(f"/proc/{pid}"):
        time.sleep(0.005)


class TouchWhenFinished(logging.Handler):
    """Makes a file when the parent logs that the task has finished."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("Finished"):
            self._path.touch()


@every_method
def test_worker_killed_while_idle_is_nobodys_fault(method: str, tmp_path: Path) -> None:
    """Its task keeps its result, and those that follow run elsewhere."""
    killer = Task("killer", kill_idle_worker, args=(tmp_path,))
    victim = Task("victim", note_own_pid, args=(tmp_path,))
    victim.logger.addHandler(TouchWhenFinished(tmp_path / "finished"))
    after = [
        Task(f"after{number}", square, args=(number,), dependencies=[TaskDependency("killer")]) for number in range(8)
    ]
    report = run([killer, victim, *after], pool(method))
    victim.close_handlers()
    assert failures(report) == {}
    assert report.entries["victim"].result == report.entries["victim"].worker_pid
    assert [report.entries[f"after{number}"].result for number in range(8)] == [n * n for n in range(8)]


def kill_keeper_once(mark: Path) -> str:
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return "done"


@every_method
def test_keeper_that_dies_is_replaced_and_nobody_blamed(method: str, tmp_path: Path) -> None:
    """All results are right, no attempt is counted twice, and the report says that it happened."""
    tasks = [Task(f"square{number}", square, args=(number,)) for number in range(200)]
    tasks.insert(100, Task("killer", kill_keeper_once, args=(tmp_path / "killed",)))
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert results(report) == {"killer": "done", **{f"square{number}": number**2 for number in range(200)}}
    assert {entry.attempts for entry in report.entries.values()} == {1}
    assert [text for text in report.warnings if "died" in text] == list(report.warnings) != []


def kill_keeper() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def test_attempts_that_have_not_begun_can_be_called_back() -> None:
    """All of them come back, and what is placed afterwards is made."""
    backend = PoolBackend(ProcessPool(2))
    backend.open([Call(f"t{number}", square, (number,), {}) for number in range(3)], [None] * 3)
    try:
        backend.start(StartAttempt(1, 0, 1))
        backend.start(StartAttempt(2, 1, 1))
        backend.recall()
        assert backend.wait(None) == [AttemptReturned(1), AttemptReturned(2)]
        backend.start(StartAttempt(3, 2, 1))
        *_, last = backend.wait(None)
        while isinstance(last, AttemptStarted):  # On a busy machine it is told by itself.
            *_, last = backend.wait(None)
        assert isinstance(last, AttemptsSucceeded)
        assert list(last.attempt_ids) == [3]
    finally:
        backend.close()


def test_keeper_that_lives_is_not_taken_for_one_that_died() -> None:
    """News of an earlier keeper's end may come when the next one has its place, and the numbers of its descriptors."""
    backend = PoolBackend(ProcessPool(1))
    backend.open([], [])
    try:
        keeper = backend._keeper
        backend._keeper_ended()
        assert backend._keeper is keeper is not None
        assert is_alive(keeper.pid)
    finally:
        backend.close()


@every_method
def test_keeper_that_dies_twice_ends_the_run(method: str) -> None:
    """WorkerStartError carries the report: what had ended, and nobody blamed."""
    tasks = [
        Task("first", square, args=(3,)),
        Task("killer", kill_keeper, dependencies=[TaskDependency("first")]),
        Task("last", square, args=(4,), dependencies=[TaskDependency("killer")]),
    ]
    with pytest.raises(WorkerStartError, match="twice") as caught:
        run(tasks, pool(method))
    report = caught.value.report
    assert report is not None
    assert report.entries["first"].result == 9
    assert set(report.skipped) == {"killer", "last"}
    assert report.errored == {}


# ---- start-up --------------------------------------------------------------------------------------------------------


def refuse(text: str) -> None:
    raise RuntimeError(text)


@every_method
def test_initializer_that_fails_ends_the_run(method: str) -> None:
    """WorkerStartError shows its traceback; nothing ran."""
    with pytest.raises(WorkerStartError, match="RuntimeError: no licence") as caught:
        run([Task("t", square, args=(2,))], pool(method, initializer=refuse, initargs=("no licence",)))
    assert "Traceback" in caught.value.stderr
    assert "in refuse" in caught.value.stderr
    assert caught.value.report is not None
    assert set(caught.value.report.skipped) == {"t"}


@pytest.mark.parametrize("code", [0, 5])
@every_method
def test_initializer_that_ends_its_worker_ends_the_run(method: str, code: int) -> None:
    """Workers that die before they can run anything are not started forever."""
    with pytest.raises(WorkerStartError):
        run([Task("t", square, args=(2,))], pool(method, initializer=os._exit, initargs=(code,)))


def be_killed_at_first(folder: Path, times: int) -> None:
    made = len(os.listdir(folder))
    (folder / str(os.getpid())).touch()
    if made < times:
        os.kill(os.getpid(), signal.SIGKILL)


@every_method
def test_workers_that_are_killed_at_first_do_not_end_the_run(method: str, tmp_path: Path) -> None:
    """Somebody kills them, who may stop; if not, it ends after a while."""
    report = run(
        [Task("t", square, args=(3,))], pool(method, 1, initializer=be_killed_at_first, initargs=(tmp_path, 5))
    )
    assert results(report) == {"t": 9}
    with pytest.raises(WorkerStartError, match="before they can run anything"):
        run([Task("t", square, args=(3,))], pool(method, initializer=be_killed_at_first, initargs=(tmp_path, 1000)))


def note_start(folder: Path) -> None:
    with open(folder / "starts", "a") as file:
        file.write(f"{os.getpid()}\n")


def own_pid(number: int) -> int:
    return os.getpid()


@every_method
def test_initializer_runs_once_in_each_child(method: str, tmp_path: Path) -> None:
    """Also in those that replace others, and never again for a later task."""
    tasks = [Task(f"t{number}", own_pid, args=(number,)) for number in range(20)]
    report = run(tasks, pool(method, max_tasks_per_child=5, initializer=note_start, initargs=(tmp_path,)))
    started = [int(line) for line in (tmp_path / "starts").read_text().split()]
    assert len(started) == len(set(started))
    assert set(results(report).values()) <= set(started)


@every_method
def test_max_tasks_per_child_replaces_the_child(method: str) -> None:
    """No child makes more attempts than that."""
    tasks = [Task(f"t{number}", own_pid, args=(number,)) for number in range(10)]
    report = run(tasks, pool(method, 1, max_tasks_per_child=3))
    made = list(results(report).values())
    assert failures(report) == {}
    assert sorted(made.count(pid) for pid in set(made)) == [1, 3, 3, 3]


def test_fork_is_refused_while_there_are_threads() -> None:
    """A fork would copy their locks; nothing was started."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with pytest.raises(ValueError, match="threads"):
            run([Task("t", square, args=(2,))], pool("fork"))
    finally:
        release.set()
        thread.join()


# ---- modules that hurt -----------------------------------------------------------------------------------------------

ModuleMaker = Callable[[str, str], ModuleType]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleMaker]:
    """Writes a module that does something in children only, and imports it here."""
    made = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TEST_PARENT", str(os.getpid()))

    def make(name: str, in_children: str) -> ModuleType:
        lines = ["import os, signal, threading, time", "if os.getpid() != int(os.environ['TEST_PARENT']):"]
        lines += [f"    {line}" for line in in_children.splitlines()]
        lines += ["def work(number): return number + 1"]
        (tmp_path / f"{name}.py").write_text("\n".join(lines))
        made.append(name)
        return importlib.import_module(name)

    yield make
    for name in made:
        del sys.modules[name]


def mixed(module: ModuleType) -> list[Task]:
    tasks = [Task(f"square{number}", square, args=(number,)) for number in range(20)]
    return [*tasks, *(Task(f"work{number}", module.work, args=(number,)) for number in range(3))]


@pytest.mark.parametrize("harm", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "os._exit(3)"])
@every_method
def test_module_that_kills_its_importer_fails_its_own_tasks(method: str, harm: str, make_module: ModuleMaker) -> None:
    """Neither the keeper's end nor that of a worker is blamed on another task."""
    report = run(mixed(make_module("lethal_module", harm)), pool(method))
    expected = {} if method == "fork" else {f"work{number}": "WorkerCrashedError" for number in range(3)}
    assert failures(report) == expected
    assert [report.entries[f"square{number}"].result for number in range(20)] == [n * n for n in range(20)]
    assert any("lethal_module" in text for text in report.warnings) == (method == "forkserver")


@every_method
def test_module_that_raises_fails_its_own_tasks(method: str, make_module: ModuleMaker) -> None:
    """They fail with its own exception."""
    report = run(mixed(make_module("raising_module", "raise ZeroDivisionError('at import')")), pool(method))
    assert failures(report) == ({} if method == "fork" else {f"work{n}": "ZeroDivisionError" for n in range(3)})


@every_method
def test_module_that_starts_a_thread_is_imported_by_the_workers(method: str, make_module: ModuleMaker) -> None:
    """A process with threads must not fork, so that the keeper leaves the module out; all tasks succeed."""
    start = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    report = run(mixed(make_module("threading_module", start)), pool(method))
    assert failures(report) == {}
    assert report.entries["work2"].result == 3
    assert any("threading_module" in text for text in report.warnings) == (method == "forkserver")


def test_module_whose_threads_end_at_a_fork_is_imported_once(make_module: ModuleMaker) -> None:
    """The keeper has no threads then when it starts a worker."""
    lines = [
        "end = threading.Event()",
        "thread = threading.Thread(target=end.wait, daemon=True)",
        "thread.start()",
        "os.register_at_fork(before=lambda: (end.set(), thread.join()))",
    ]
    report = run(mixed(make_module("considerate_module", "\n".join(lines))), pool("forkserver"))
    assert failures(report) == {}
    assert report.warnings == ()


def test_numpy_is_imported_once_and_computes_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its OpenBLAS has threads as soon as it is imported: they end at a fork, and start again where they are needed."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    tasks = [Task(f"t{number}", np.linalg.matrix_power, args=(np.ones((400, 400)), 2)) for number in range(4)]
    report = run(tasks, pool("forkserver"))
    assert [float(report.entries[task.name].result[0, 0]) for task in tasks] == [400.0] * 4
    assert report.warnings == ()


HANG_IN_KEEPER = "if os.getppid() == int(os.environ['TEST_PARENT']): time.sleep({})"


def test_module_that_hangs_the_keeper_is_imported_by_the_workers(
    make_module: ModuleMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while the keeper is replaced by one that leaves the module out."""
    monkeypatch.setattr("processes.backends.pool._IMPORT_MAX_S", 0.3)
    report = run(mixed(make_module("hanging_module", HANG_IN_KEEPER.format(600))), pool("forkserver"))
    assert failures(report) == {}
    assert any("hanging_module" in text for text in report.warnings)


def test_deadline_ends_a_run_whose_keeper_hangs(make_module: ModuleMaker) -> None:
    """A module that is still being imported does not hold up the end of the run."""
    began = time.monotonic()
    report = run(mixed(make_module("hanging_module", HANG_IN_KEEPER.format(10))), pool("forkserver"), deadline=0.5)
    assert time.monotonic() - began < 5
    assert len(report.skipped) == 23


# ---- what cannot travel ----------------------------------------------------------------------------------------------


@every_method
def test_unpicklable_arguments_are_refused_together(method: str, tmp_path: Path) -> None:
    """All of them are named, with the task, before anything has run."""
    lock = threading.Lock()
    tasks = [
        Task("innocent", leave_mark, args=(tmp_path, 1)),
        Task("first", square, args=(1, lock)),
        Task("second", square, kwargs={"number": lock}),
        Task("third", lock.acquire),
    ]
    with pytest.raises(ExceptionGroup) as caught:
        run(tasks, pool(method))
    errors = caught.value.exceptions
    assert all(isinstance(error, UnpicklableError) for error in errors)
    named = {(error.task_name, error.what) for error in errors if isinstance(error, UnpicklableError)}
    assert named == {("first", "args[1]"), ("second", "kwargs['number']"), ("third", "function")}
    assert os.listdir(tmp_path) == []


def error_of(report: ProcessExecutionReport, name: str) -> ErrorData:
    error = report.entries[name].error
    assert error is not None
    return error


def return_lock() -> object:
    return threading.Lock()


class RefusesToBePickled:
    def __reduce__(self) -> str:
        raise SystemExit(3)


def return_refusing() -> object:
    return RefusesToBePickled()


@every_method
def test_unpicklable_result_fails_its_task(method: str) -> None:
    """The error says that it was the result; nothing else fails."""
    tasks = [Task(f"square{number}", square, args=(number,)) for number in range(10)]
    process = Process([Task("lock", return_lock), Task("exits", return_refusing), *tasks])
    report = process.run(pool(method))
    assert failures(report) == {"lock": "UnpicklableError", "exits": "UnpicklableError"}
    assert "result cannot be pickled" in error_of(report, "lock").exception
    assert len(report.successes) == 10


def raise_on_load() -> None:
    message = "cannot be loaded"
    raise ValueError(message)


def leave_on_load() -> None:
    os._exit(11)


class ReducedTo:
    """Becomes a call of that function when it is loaded."""

    def __init__(self, func: Callable[[], object]) -> None:
        self._func = func

    def __call__(self, *args: object) -> object:
        return args

    def __reduce__(self) -> tuple[Any, ...]:
        return self._func, ()


@every_method
def test_value_that_cannot_be_loaded_fails_its_task(method: str) -> None:
    """Whether argument or function: the exception is that of the loading, and says where it was raised."""
    tasks = [Task(f"square{number}", square, args=(number,)) for number in range(10)]
    tasks += [
        Task("argument", square, args=(ReducedTo(raise_on_load),)),
        Task("function", ReducedTo(raise_on_load)),
        Task("argument_kills", square, args=(ReducedTo(leave_on_load),)),
        Task("function_kills", ReducedTo(leave_on_load)),
    ]
    report = run(tasks, pool(method))
    assert failures(report) == {
        "argument": "ValueError",
        "function": "ValueError",
        "argument_kills": "WorkerCrashedError",
        "function_kills": "WorkerCrashedError",
    }
    assert len(report.successes) == 10
    assert "arguments were loaded" in error_of(report, "argument").traceback_str


def return_reduced() -> ReducedTo:
    return ReducedTo(raise_on_load)


def raise_elsewhere(pid: int) -> None:
    if os.getpid() != pid:
        raise_on_load()


def return_reduced_elsewhere() -> ReducedTo:
    return ReducedTo(partial(raise_elsewhere, os.getpid()))


def count(value: object) -> int:
    return 1


def with_consumer(producer: Callable[[], object]) -> list[Task]:
    wants = [TaskDependency("producer", use_result_as_additional_args=True)]
    return [
        Task("producer", producer),
        # In a child of its own: the producer's waits for it.
        Task("consumer", count, dependencies=wants),
        *(Task(f"square{number}", square, args=(number,)) for number in range(10)),
    ]


@every_method
def test_result_that_cannot_be_loaded_fails_its_task(method: str) -> None:
    """It is tried where it was made: nobody has to find out when it is read."""
    report = run(with_consumer(return_reduced), pool(method))
    assert failures(report) == {"producer": "UnpicklableError"}
    assert "loading it again raised ValueError: cannot be loaded" in error_of(report, "producer").exception
    assert list(report.skipped) == ["consumer"]


@every_method
def test_result_that_cannot_be_loaded_elsewhere_fails_its_consumer(method: str) -> None:
    """The producer succeeded; who is given the result fails, alone."""
    report = run(with_consumer(return_reduced_elsewhere), pool(method, max_tasks_per_child=1))
    assert failures(report) == {"consumer": "ValueError"}
    with pytest.raises(ValueError, match="cannot be loaded"):
        _ = report.entries["producer"].result


# ---- what reaches the child ------------------------------------------------------------------------------------------


def surroundings() -> dict[str, object]:
    return {
        "path": list(sys.path),
        "argv": list(sys.argv),
        "cwd": os.getcwd(),
        "env": os.environ.get("TEST_VARIABLE"),
        "stdin": (os.read(0, 1), sys.stdin.read()),
        "is_leader": os.getsid(0) == os.getpid(),
        "dev_null": os.readlink("/proc/self/fd/0"),
        "daemon": multiprocessing.current_process().daemon,
    }


@every_method
def test_child_has_the_parents_surroundings(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sys.path, sys.argv, working folder and environment are the parent's; standard input is empty."""
    monkeypatch.syspath_prepend(tmp_path / "somewhere")
    monkeypatch.setattr(sys, "argv", ["program", "--flag"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_VARIABLE", "reaches")
    report = run([Task("t", surroundings)], pool(method))
    assert report.entries["t"].result == {
        "path": sys.path,
        "argv": ["program", "--flag"],
        "cwd": str(tmp_path),
        "env": "reaches",
        "stdin": (b"", ""),
        "is_leader": True,
        "dev_null": "/dev/null",
        "daemon": False,
    }


def blas_threads() -> list[str | None]:
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_numeric_threads_are_shared_out_unless_the_user_did(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many workers gets one; what the user has set stays."""
    monkeypatch.setenv("OMP_NUM_THREADS", "17")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    report = run([Task("t", blas_threads)], pool(method, 256))
    assert report.entries["t"].result == ["17", "1"]
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def log_level() -> tuple[int, int, bool]:
    return logging.getLogger("some.name").level, logging.root.manager.disable, logging.getLogger("quiet").disabled


@every_method
def test_child_has_the_parents_logger_levels(method: str) -> None:
    """Levels, `logging.disable` and disabled loggers are copied."""
    logging.getLogger("some.name").setLevel(13)
    logging.getLogger("quiet").disabled = True
    logging.disable(7)
    try:
        report = run([Task("t", log_level)], pool(method))
    finally:
        logging.disable(logging.NOTSET)
        logging.getLogger("quiet").disabled = False
        logging.getLogger("some.name").setLevel(logging.NOTSET)
    assert report.entries["t"].result == (13, 7, True)


# ---- side by side ----------------------------------------------------------------------------------------------------


def wait_for_both(folder: Path, name: str, other: str) -> str:
    (folder / name).write_text(name)
    return wait_for_file(folder / other)


@every_method
def test_workers_run_side_by_side(method: str, tmp_path: Path) -> None:
    """Two workers make two attempts at the same time: each waits for the other."""
    tasks = [
        Task("a", wait_for_both, args=(tmp_path, "a", "b"), timeout=60),
        Task("b", wait_for_both, args=(tmp_path, "b", "a"), timeout=60),
    ]
    assert results(run(tasks, pool(method))) == {"a": "b", "b": "a"}
