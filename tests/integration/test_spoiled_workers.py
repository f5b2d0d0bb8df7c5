"""A task cannot spoil its worker: what it changes is put back, what it leaves behind goes with its worker."""

import asyncio
import contextlib
import ctypes
import decimal
import faulthandler
import gc
import importlib
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from decimal import Decimal
from multiprocessing import context, shared_memory, util
from pathlib import Path

import pytest

from processes import Task, TaskDependency
from processes.page import STACK_SIGNAL
from support.gate import Gate, pass_gate
from support.pools import every_method, failures, pool, results, run

# ---- what is put back ------------------------------------------------------------------------------------------------

State = dict[str, object]


def nothing(*_: object) -> None:
    pass


def open_file(descriptor: int) -> object:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return "closed"
    return found.st_dev, found.st_ino


def folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "gone"


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def loggers() -> State:
    named = {name: logging.getLogger(name) for name in ("", "spoiled", "spoiled.known")}
    return {
        name: (logger.level, logger.disabled, logger.propagate, [type(handler).__name__ for handler in logger.handlers])
        for name, logger in named.items()
    }


def _event_loop() -> str:
    """Asyncio's policy and that one's loop: a fork may have a policy already, of a program that has used asyncio."""
    policy = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    return repr((policy, getattr(getattr(policy, "_local", None), "_loop", None)))


def state() -> State:
    """What a task finds, and may change."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    return {
        "folder": folder(),
        "umask": umask(),
        "environment": dict(os.environ),
        "environment of C": (getenv(b"SPOILED"), getenv(b"HOME"), time.tzname),
        "handlers": {number: repr(signal.getsignal(number)) for number in range(1, 32)},
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "timers": [signal.getitimer(which) for which in range(3)],
        "descriptors": [open_file(descriptor) for descriptor in range(3)],
        "path": list(sys.path),
        "argv": list(sys.argv),
        "streams": [repr(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "hooks": [repr(hook) for hook in (sys.excepthook, sys.unraisablehook, threading.excepthook)],
        "recursion": sys.getrecursionlimit(),
        "tracing": [repr(sys.gettrace()), repr(sys.getprofile()), repr(threading.gettrace())],
        "gc": (gc.isenabled(), gc.get_threshold()),
        "time-out of sockets": socket.getdefaulttimeout(),
        "warnings": [repr(item) for item in warnings.filters] + [repr(warnings.showwarning)],
        "loggers": loggers(),
        "logging": (logging.root.manager.disable, len(logging.root.filters)),
        "start method": repr(context._default_context._actual_context),  # type: ignore[attr-defined]
        "event loop": _event_loop(),
        "precision": decimal.getcontext().prec,
        "faulthandler": faulthandler.is_enabled(),
        "threads": threading.active_count(),
    }


def go_to_root() -> None:
    os.chdir("/")


def lose_folder() -> None:
    lost = tempfile.mkdtemp()
    os.chdir(lost)
    os.rmdir(lost)


def change_environment() -> None:
    os.environ["SPOILED"] = "1"
    os.environ["TZ"] = "Pacific/Chatham"
    time.tzset()
    del os.environ["HOME"]


def clear_environment() -> None:
    os.environ.clear()


def replace_environment() -> None:
    os.environ = {"SPOILED": "1"}  # type: ignore[assignment]  # noqa: B003


def change_umask() -> None:
    os.umask(0o007)


def handle_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGSEGV):
        signal.signal(number, nothing)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, STACK_SIGNAL])


def set_timers() -> None:
    for which in range(3):
        signal.setitimer(which, 1000, 1000)


def set_alarm() -> None:
    signal.alarm(1000)


def close_standard() -> None:
    for descriptor in range(3):
        os.close(descriptor)


def replace_standard() -> None:
    null = os.open("/dev/zero", os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)


def change_path() -> None:
    sys.path.insert(0, "/nowhere")


def replace_path() -> None:
    sys.path = ["/nowhere"]


def change_arguments() -> None:
    sys.argv.append("--more")


class Swallow:
    def write(self, text: str) -> int:
        return len(text)


def replace_streams() -> None:
    sys.stdin = sys.stdout = sys.stderr = Swallow()


def delete_stream() -> None:
    del sys.stdout


def set_hooks() -> None:
    sys.excepthook = sys.unraisablehook = threading.excepthook = nothing


def recurse_less() -> None:
    sys.setrecursionlimit(500)


def trace() -> None:
    threading.settrace(nothing)
    sys.setprofile(nothing)
    sys.settrace(nothing)


def collect_nothing() -> None:
    gc.disable()
    gc.set_threshold(3, 2, 1)


def limit_sockets() -> None:
    socket.setdefaulttimeout(0.1)


def filter_warnings() -> None:
    warnings.simplefilter("error")
    warnings.showwarning = nothing  # type: ignore[assignment]


def forget_filters() -> None:
    warnings.resetwarnings()


def set_levels() -> None:
    logging.getLogger("spoiled.known").setLevel(logging.CRITICAL)
    logging.getLogger().setLevel(logging.ERROR)


def add_handlers() -> None:
    logging.getLogger("spoiled").addHandler(logging.StreamHandler())
    logging.getLogger("spoiled").propagate = False
    logging.basicConfig(force=True)


def disable_logging() -> None:
    logging.disable(logging.CRITICAL)


def capture_warnings() -> None:
    logging.captureWarnings(capture=True)


def filter_records() -> None:
    logging.getLogger().addFilter(lambda _: False)
    logging.getLogger().setLevel(logging.DEBUG)


def choose_start_method() -> None:
    multiprocessing.set_start_method("spawn", force=True)


def leave_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


def compute_coarsely() -> None:
    decimal.getcontext().prec = 3


def compute_coarsely_with(number: Decimal) -> State:
    """The argument's loading has touched the context before."""
    decimal.getcontext().prec = 3
    return {"precise": str(number / 3), **state()}


def disable_faulthandler() -> None:
    faulthandler.disable()


CHANGES: list[Callable[[], None]] = [
    go_to_root,
    lose_folder,
    change_environment,
    clear_environment,
    replace_environment,
    change_umask,
    handle_signals,
    block_signals,
    set_timers,
    set_alarm,
    close_standard,
    replace_standard,
    change_path,
    replace_path,
    change_arguments,
    replace_streams,
    delete_stream,
    set_hooks,
    recurse_less,
    trace,
    collect_nothing,
    limit_sockets,
    filter_warnings,
    forget_filters,
    set_levels,
    add_handlers,
    disable_logging,
    capture_warnings,
    filter_records,
    choose_start_method,
    leave_loop,
    compute_coarsely,
    disable_faulthandler,
]


def change(how: Callable[[], None]) -> bool:
    """Change something, and tell whether a task would find it changed."""
    before = state()
    how()
    if not hasattr(sys, "stdout"):
        return True
    return state() != before


def differences(one: State, other: State) -> State:
    return {name: (value, other[name]) for name, value in one.items() if other[name] != value}


@every_method
def test_next_task_finds_everything_as_it_was(method: str) -> None:
    """Whatever a task changes, the next one in the same worker finds what the first one found."""
    tasks = [Task("before", state)]
    for how in CHANGES:
        tasks += [Task(how.__name__, change, args=(how,)), Task(f"after_{how.__name__}", state)]
    tasks += [Task("decimal", compute_coarsely_with, args=(Decimal(1),)), Task("after_decimal", state)]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {}
    found = results(report)
    assert [how.__name__ for how in CHANGES if not found[how.__name__]] == []
    before = found["before"]
    names = [*(how.__name__ for how in CHANGES), "decimal"]
    assert {name: spoiled for name in names if (spoiled := differences(before, found[f"after_{name}"]))} == {}
    assert len({entry.worker_pid for entry in report.entries.values()}) == 1
    assert report.warnings == ()


def go_where_told(folder: Path) -> str:
    """Short, and of use only where it is the first that does it."""
    os.chdir(folder)
    return os.getcwd()


@every_method
def test_short_attempts_find_everything_as_it_was(method: str, tmp_path: Path) -> None:
    """Also those that wait in the channel right behind the one that changed it."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    tasks = [Task(f"t{number}", go_where_told, args=(Path("ab"[number % 2]),)) for number in range(200)]
    with contextlib.chdir(tmp_path):
        report = run(tasks, pool(method))
    assert results(report) == {f"t{number}": str(tmp_path / "ab"[number % 2]) for number in range(200)}


# ---- what stays ------------------------------------------------------------------------------------------------------


@every_method
def test_what_the_initializer_changed_stays(method: str) -> None:
    """It is how the worker is meant to be."""
    tasks = [Task("t0", folder), Task("t1", change, args=(lose_folder,)), Task("t2", folder)]
    report = run(tasks, pool(method, 1, initializer=go_to_root))
    assert results(report) == {"t0": "/", "t1": True, "t2": "/"}


MODULE = """
import os, sys, threading, time
if os.getpid() != int(os.environ["TEST_PARENT"]):
    sys.setrecursionlimit(4321)
    threading.Thread(target=time.sleep, args=(600,), daemon=True, name="of the module").start()

def work():
    return sys.getrecursionlimit(), threading.active_count(), os.getpid()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_a_tasks_module_changed_when_imported_stays(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any worker would import it: settings and threads of its own are no task's."""
    (tmp_path / "setting_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TEST_PARENT", str(os.getpid()))
    module = importlib.import_module("setting_module")
    try:
        report = run([Task(f"t{number}", module.work) for number in range(3)], pool(method, 1))
    finally:
        del sys.modules["setting_module"]
    (found,) = set(results(report).values())
    assert found[:2] == (4321, 2)
    assert [text for text in report.warnings if "left" in text] == []


def arm_timer() -> None:
    signal.setitimer(signal.ITIMER_REAL, 1000, 1000)


def seconds_left() -> float:
    return signal.getitimer(signal.ITIMER_REAL)[0]


@every_method
def test_timer_of_the_initializer_goes_on(method: str) -> None:
    """It is not started anew, and no task is blamed for it."""
    report = run([Task(f"t{number}", seconds_left) for number in range(5)], pool(method, 1, initializer=arm_timer))
    left = list(results(report).values())
    assert left == sorted(left, reverse=True)
    assert left[-1] > 0
    assert report.warnings == ()


PRINTING_MODULE = """
import sys
sys.setrecursionlimit(sys.getrecursionlimit() + 1)

def work():
    print("captured")
"""


@every_method
def test_streams_are_not_those_of_a_captured_attempt(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its module is imported while its output is captured already."""
    (tmp_path / "printing_module.py").write_text(PRINTING_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    limit = sys.getrecursionlimit()
    module = importlib.import_module("printing_module")
    try:
        captured = Task("captured", module.work, log_path=tmp_path / "log", capture_output=True)
        report = run([Task("before", state), captured, Task("after", state)], pool(method, 1))
    finally:
        del sys.modules["printing_module"]
        sys.setrecursionlimit(limit)
        captured.close_handlers()
    assert "captured" in (tmp_path / "log").read_text()
    found = results(report)
    changed = differences(found["before"], found["after"])
    changed.pop("recursion", None)  # Of the module's making.
    assert changed == {}


# ---- what the library itself put there -------------------------------------------------------------------------------


def disable_stacks() -> None:
    faulthandler.disable()
    faulthandler.unregister(STACK_SIGNAL)


def take_stacks() -> None:
    for number in (signal.SIGSEGV, STACK_SIGNAL):
        signal.signal(number, nothing)


def segfault() -> None:
    ctypes.string_at(0)


@pytest.mark.parametrize("spoil", [disable_stacks, take_stacks])
@every_method
def test_stacks_are_told_after_a_task_disabled_faulthandler(
    method: str, spoil: Callable[[], None], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a task crashed, and where it was when it was stopped."""
    monkeypatch.setattr("processes.child.STACK_WAIT_S", 30.0)  # It may take long on a busy machine, but it comes.
    tasks = [
        Task("first", spoil),
        Task("crashes", segfault),
        Task("second", spoil),
        Task("hangs", pass_gate, args=(gate.address,), timeout=0.5),
    ]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {"crashes": "WorkerCrashedError", "hangs": "TaskTimeoutError"}
    crash, stop = report.entries["crashes"].error, report.entries["hangs"].error
    assert crash is not None
    assert stop is not None
    assert "in segfault" in crash.traceback_str
    assert stop.stuck_at.startswith(pass_gate.__code__.co_filename + ":")


def log(text: str) -> None:
    logging.getLogger("spoiled").info(text)


def fail_to_log() -> None:
    logging.getLogger().handlers.clear()
    logging.getLogger("spoiled").setLevel(logging.CRITICAL)
    logging.disable(logging.CRITICAL)


@every_method
def test_records_arrive_after_a_task_configured_logging(method: str, tmp_path: Path) -> None:
    """The next task's file has what it logged."""
    tasks = [
        Task("spoils", fail_to_log, log_path=tmp_path / "spoils.log"),
        Task("logs", log, args=("it arrives",), log_path=tmp_path / "logs.log"),
    ]
    run(tasks, pool(method, 1))
    for task in tasks:
        task.close_handlers()
    assert "it arrives" in (tmp_path / "logs.log").read_text()


# ---- what is left behind ---------------------------------------------------------------------------------------------


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,), name="sleeper").start()
    return os.getpid()


def leave_daemon_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,), daemon=True, name="sleeper").start()
    return os.getpid()


def leave_process() -> int:
    subprocess.Popen(["sleep", "600"])
    return os.getpid()


def leave_daemon() -> int:
    """Forks twice: nobody's child but by adoption."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.setsid()
            os.execvp("sleep", ["sleep", "600"])
        os._exit(0)
    os.waitpid(child, 0)
    return os.getpid()


def close_stdout() -> int:
    sys.stdout.close()
    return os.getpid()


def close_low_descriptors() -> int:
    os.closerange(0, 256)
    return os.getpid()


def close_all_descriptors() -> int:
    os.closerange(0, 65_536)
    return os.getpid()


LEFT: list[tuple[Callable[[], int], str]] = [
    (leave_thread, "left 1 thread running (sleeper)"),
    (leave_daemon_thread, "left 1 thread running (sleeper)"),
    (leave_process, "left 1 process running"),
    (leave_daemon, "left 1 process running"),
    (close_stdout, "closed sys.stdout or sys.stderr of its child"),
    (close_low_descriptors, "closed descriptors of its child"),
    (close_all_descriptors, "closed descriptors of its child"),
]


@pytest.mark.parametrize(("leave", "left"), LEFT, ids=[leave.__name__ for leave, _ in LEFT])
@every_method
def test_worker_with_leftovers_is_replaced(method: str, leave: Callable[[], int], left: str) -> None:
    """Its task has its result, the next ones another worker, and a warning says which task left what."""
    tasks = [Task("leaves", leave), *(Task(f"after{number}", os.getpid) for number in range(20))]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {}
    found = results(report)
    (other,) = {found[f"after{number}"] for number in range(20)}
    assert found["leaves"] == report.entries["leaves"].worker_pid != other
    assert {entry.attempts for entry in report.entries.values()} == {1}
    assert report.warnings == (f"task 'leaves' {left}: its child was replaced",)


def fail_at_first(folder: Path) -> None:
    """Leaves a thread each time, and succeeds at the fourth attempt."""
    leave_thread()
    made = len(os.listdir(folder))
    (folder / str(made)).touch()
    if made < 3:
        message = "not this time"
        raise ConnectionError(message)


def close_and_print() -> None:
    print("first")
    os.closerange(3, 256)


def delete_and_print() -> None:
    print("first")
    del sys.stdout


@pytest.mark.parametrize("spoil", [close_and_print, delete_and_print])
@every_method
def test_output_is_captured_of_a_task_that_spoils_its_streams(
    method: str, spoil: Callable[[], None], tmp_path: Path
) -> None:
    """What it wrote before is in its log, and it is not blamed."""
    tasks = [Task("spoils", spoil, log_path=tmp_path / "log", capture_output=True), Task("after", os.getpid)]
    report = run(tasks, pool(method, 1))
    tasks[0].close_handlers()
    assert failures(report) == {}
    assert "first" in (tmp_path / "log").read_text()


@every_method
def test_leftovers_of_a_task_are_told_once(method: str, tmp_path: Path) -> None:
    """However many attempts it makes, and in whichever worker."""
    wants_all = [TaskDependency("fails"), TaskDependency("leaves")]
    tasks = [
        Task("leaves", leave_thread),
        Task("fails", fail_at_first, args=(tmp_path,), retries=3),
        Task("after", os.getpid, dependencies=wants_all),
    ]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {}
    assert report.entries["fails"].attempts == 4
    assert sorted(text.partition(" left")[0] for text in report.warnings) == ["task 'fails'", "task 'leaves'"]


@every_method
def test_leftovers_among_queued_attempts_cost_nobody_an_attempt(method: str) -> None:
    """Of 600 instant tasks, several in each channel at once, all have their results at the first attempt."""
    tasks = [Task(f"t{number}", leave_thread if number % 100 == 50 else os.getpid) for number in range(600)]
    report = run(tasks, pool(method))
    assert failures(report) == {}
    assert {entry.attempts for entry in report.entries.values()} == {1}
    assert {entry.result for entry in report.entries.values()} == {
        entry.worker_pid for entry in report.entries.values()
    }


def close_all_and_raise() -> None:
    os.closerange(0, 65_536)
    message = "nobody will hear of it"
    raise ValueError(message)


def close_all_and_return_much() -> bytes:
    os.closerange(0, 65_536)
    return bytes(1_000_000)


@pytest.mark.parametrize("close", [close_all_and_raise, close_all_and_return_much])
@every_method
def test_task_that_cut_its_worker_off_is_blamed(method: str, close: Callable[[], object]) -> None:
    """What it had to say cannot be told: the error says why, and nobody else is harmed."""
    tasks = [Task("closes", close), *(Task(f"after{number}", os.getpid) for number in range(20))]
    report = run(tasks, pool(method, 1))
    assert failures(report) == {"closes": "WorkerCrashedError"}
    error = report.entries["closes"].error
    assert error is not None
    assert "closed descriptors" in error.exception
    assert {entry.attempts for entry in report.entries.values()} == {1}


def leave_zombie() -> int:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.returncode = 0  # Nobody is to wait for it when it is collected.
    return os.getpid()


def has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@every_method
def test_process_that_ended_is_reaped(method: str) -> None:
    """It is no reason to replace a worker."""
    report = run([Task("leaves", leave_zombie), Task("after", has_children)], pool(method, 1))
    assert results(report)["after"] is False
    assert report.entries["after"].worker_pid == report.entries["leaves"].worker_pid
    assert report.warnings == ()


def share_memory() -> int:
    memory = shared_memory.SharedMemory(create=True, size=10)
    memory.close()
    memory.unlink()
    return os.getpid()


@every_method
def test_task_that_shared_memory_left_nothing(method: str) -> None:
    """The process that multiprocessing starts for it is its own affair."""
    report = run([Task(f"t{number}", share_memory) for number in range(3)], pool(method, 1))
    assert len(set(results(report).values())) == 1
    assert report.warnings == ()


def use_forkserver(folder: str) -> list[str]:
    os.chdir(folder)
    with multiprocessing.get_context("forkserver").Pool(1) as workers:
        return workers.map(os.path.abspath, [""])


@every_method
def test_forkserver_of_a_task_does_not_serve_the_next(method: str, tmp_path: Path) -> None:
    """It would have the working folder of the first."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    tasks = [Task(folder.name, use_forkserver, args=(str(folder),)) for folder in folders]
    found = results(run([*tasks, Task("after", has_children)], pool(method, 1)))
    assert [found[folder.name] for folder in folders] == [[str(folder)] for folder in folders]


@every_method
def test_folder_of_multiprocessing_goes_with_its_task(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone when the outcome is told, after which the run may end at once; a fork has not its original's."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(own))  # type: ignore[attr-defined]
    report = run([Task("t", use_forkserver_folder, args=(str(tmp_path),))], pool(method, 1))
    folder = results(report)["t"]
    assert folder != own
    assert (folder.exists(), own.exists()) == (False, True)


def use_forkserver_folder(folder: str) -> Path:
    use_forkserver(folder)
    return Path(util.get_temp_dir())


def raise_in_copy() -> str:
    copy = os.fork()
    if copy == 0:
        message = "in the copy"
        raise ValueError(message)
    os.waitpid(copy, 0)
    return "in the task"


@every_method
def test_fork_that_raises_says_nothing_of_its_task(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task goes on in its worker, where the copy's exception is not its own."""
    monkeypatch.setattr("processes.backends.pool._CAPTURE_S", 0.0)
    report = run([Task("forks", raise_in_copy), Task("beside", os.getpid)], pool(method))
    assert failures(report) == {}
    assert report.entries["forks"].result == "in the task"


@every_method
def test_child_that_is_replaced_anyway_is_not_told_of(method: str) -> None:
    """With `max_tasks_per_child=1` every task has a child of its own."""
    tasks = [Task(f"t{number}", leave_thread) for number in range(3)]
    report = run(tasks, pool(method, 1, max_tasks_per_child=1))
    assert len(set(results(report).values())) == 3
    assert report.warnings == ()
