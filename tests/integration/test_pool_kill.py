"""Kill means kill: time-outs, memory limits of what will not stop, and what is left when the parent dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from processes import Process, Task, TaskTimeoutError
from support import pools
from support.notes import note_pid, wait_for_file
from support.pools import every_method, failures, living, pids_in, pool, results, run
from support.stubborn import STUBBORN

# ---- what will not stop ----------------------------------------------------------------------------------------------


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("stubborn", ["daemon", "session"])
@every_method
def test_descendants_are_gone_before_the_run_goes_on(method: str, stubborn: str, tmp_path: Path) -> None:
    """They are buried with their worker, not at the end of the run."""
    folder, func = str(tmp_path), STUBBORN[stubborn][0]
    tasks = [
        Task("stubborn", func, args=(folder,), timeout=2.0),
        Task("watcher", await_burial, args=(folder, STUBBORN[stubborn][1])),
    ]
    report = run(tasks, pool(method))
    assert failures(report) == {"stubborn": "TaskTimeoutError"}


def await_burial(folder: str, count: int) -> None:
    give_up_at = time.monotonic() + 20
    while len(pids := list(pools.pids_in(Path(folder)).values())) < count or pools.living(pids):
        if time.monotonic() > give_up_at:
            message = f"of {pids} these live: {pools.living(pids)}"
            raise TimeoutError(message)
        time.sleep(0.01)


@every_method
def test_deadline_kills_what_runs_and_skips_the_rest(method: str, tmp_path: Path) -> None:
    """Running attempts fail with the run's deadline, with all their processes; what never began is skipped."""
    stubborn = {name: tmp_path / name for name in ("daemon", "gil")}
    for folder in stubborn.values():
        folder.mkdir()
    tasks = [Task(name, STUBBORN[name][0], args=(str(folder),)) for name, folder in stubborn.items()]
    tasks += [Task(f"square{number}", square, args=(number,)) for number in range(5)]
    process = Process(tasks)
    report = process.run(pool(method), deadline=3.0)
    assert failures(report) == {"daemon": "TaskTimeoutError", "gil": "TaskTimeoutError"}
    error = process.runner.results["gil"].exception
    assert isinstance(error, TaskTimeoutError)
    assert error.is_deadline
    assert set(report.skipped) == {f"square{number}" for number in range(5)}
    noted = {name: list(pids_in(folder).values()) for name, folder in stubborn.items()}
    assert {name: len(pids) for name, pids in noted.items()} == {name: STUBBORN[name][1] for name in stubborn}
    assert {name: living(pids) for name, pids in noted.items()} == {name: [] for name in stubborn}


@every_method
def test_instant_tasks_with_tight_timeouts_are_blamed_for_their_own(method: str) -> None:
    """Where attempts follow each other closely, a kill never hits the one behind."""
    tasks = [Task(f"t{number}", square, args=(number,), timeout=60) for number in range(300)]
    tasks += [Task(f"slow{number}", time.sleep, args=(60,), timeout=0.01) for number in range(20)]
    tasks += [Task(f"u{number}", square, args=(number,), timeout=60) for number in range(300)]
    report = run(tasks, pool(method))
    assert failures(report) == {f"slow{number}": "TaskTimeoutError" for number in range(20)}
    assert {entry.attempts for entry in report.entries.values()} == {1}


@every_method
def test_timeout_is_retried_by_default(method: str, tmp_path: Path) -> None:
    """A time-out is among what `retry_on` covers where nothing is said; each attempt gets a child of its own."""
    report = run([Task("t", time.sleep, args=(60,), timeout=0.1, retries=2)], pool(method))
    entry = report.entries["t"]
    assert (failures(report), entry.attempts) == ({"t": "TaskTimeoutError"}, 3)
    assert len({record.worker_pid for record in entry.attempt_log}) == 3


def burn() -> None:
    while True:
        pass


@every_method
def test_usage_of_a_killed_attempt_is_known(method: str) -> None:
    """CPU and peak come from the kernel's account of the dead child."""
    report = run([Task("t", burn, timeout=0.7)], pool(method))
    usage = report.entries["t"].usage
    assert usage is not None
    assert usage.cpu_user is not None
    assert usage.peak_memory is not None
    assert 0.1 < usage.cpu_user < 2
    assert 5 * 2**20 < usage.peak_memory < 500 * 2**20
    assert usage.peak_source == "wait4"


# ---- what a task leaves behind ---------------------------------------------------------------------------------------


def leave_daemon(folder: str) -> str:
    """Returns at once; the daemon stays."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        note_pid(folder, "daemon")
        time.sleep(600)
    os.wait()
    wait_for_file(Path(folder, "daemon"))
    return "left"


@every_method
def test_daemon_that_a_task_leaves_ends_with_the_run(method: str, tmp_path: Path) -> None:
    """The task succeeds; nothing of it is left when the run has ended."""
    report = run([Task("t", leave_daemon, args=(str(tmp_path),))], pool(method))
    assert results(report) == {"t": "left"}
    assert living(list(pids_in(tmp_path).values())) == []


def leave_daemon_and_kill_keeper(folder: str) -> str:
    """The first time, a daemon is left and the keeper killed; then it returns."""
    if Path(folder, "daemon").exists():
        return "second"
    keeper = os.getppid()
    if os.fork() == 0:
        os.setsid()
        note_pid(folder, "daemon")
        time.sleep(600)
    wait_for_file(Path(folder, "daemon"))
    os.kill(keeper, signal.SIGKILL)
    time.sleep(600)
    return "first"


@every_method
def test_keeper_that_dies_leaves_nobody_behind(method: str, tmp_path: Path) -> None:
    """Workers die with it, and with them what lives in sessions of its own."""
    report = run([Task("t", leave_daemon_and_kill_keeper, args=(str(tmp_path),))], pool(method))
    assert results(report) == {"t": "second"}
    left = living(list(pids_in(tmp_path).values()), within=2.0)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


# ---- the parent dies -------------------------------------------------------------------------------------------------

PARENT = """
import os, sys
from pathlib import Path
from processes import Process, ProcessPool, Task
from support.notes import note_pid
from support.stubborn import STUBBORN

method, folder, *names = sys.argv[1:]
tasks = [Task(name, STUBBORN[name][0], args=(f"{folder}/{name}",)) for name in names]
note_pid(folder, "parent")
Process(tasks).run(ProcessPool(len(tasks), start_method=method))
"""

HANGING_MODULE = """
import os, sys, time
if os.getppid() == int(os.environ["TEST_PARENT"]):
    from support.notes import note_pid
    note_pid(os.environ["TEST_FOLDER"], "keeper")
    time.sleep(600)
def work(): pass
"""

PARENT_OF_HANGING_KEEPER = """
import os, sys
os.environ["TEST_PARENT"] = str(os.getpid())
import hanging
from processes import Process, ProcessPool, Task
Process([Task("t", hanging.work)]).run(ProcessPool(1))
"""


def start_script(script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
@every_method
def test_parent_that_dies_takes_everything_along(method: str, number: int, tmp_path: Path) -> None:
    """Workers, daemons, sessions of their own, and code that holds the GIL are gone within seconds."""
    names = ["daemon", "session", "program", "gil", "signals"]
    for name in names:
        (tmp_path / name).mkdir()
    with start_script(PARENT, method, str(tmp_path), *names) as parent:
        expected = sum(STUBBORN[name][1] for name in names)
        give_up_at = time.monotonic() + 30
        while len(noted := noted_in(tmp_path, names)) < expected and time.monotonic() < give_up_at:
            time.sleep(0.01)
        everybody = {child.pid for child in psutil.Process(parent.pid).children(recursive=True)} | set(noted)
        parent.send_signal(number)
        parent.wait()
    assert len(noted) == expected
    assert len(everybody) > expected  # the keeper
    assert living(list(everybody), within=5.0) == []


def noted_in(folder: Path, names: list[str]) -> list[int]:
    return [pid for name in names for pid in pids_in(folder / name).values()]


def test_parent_that_dies_takes_a_keeper_along_that_still_imports(tmp_path: Path) -> None:
    """A module that hangs while it is imported does not keep the keeper alive."""
    (tmp_path / "hanging.py").write_text(HANGING_MODULE)
    (tmp_path / "pids").mkdir()
    path = os.pathsep.join([*sys.path, str(tmp_path)])
    environment = {"PYTHONPATH": path, "TEST_FOLDER": str(tmp_path / "pids")}
    with start_script(PARENT_OF_HANGING_KEEPER, **environment) as parent:
        keeper = int(wait_for_file(tmp_path / "pids" / "keeper"))
        parent.kill()
    left = living([keeper], within=3.0)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


PARENT_OF_IDLE_WORKER = """
import ctypes, os, sys, time
from pathlib import Path
from processes import Process, ProcessPool, Task, TaskFinished
from support.notes import note_pid, wait_for_file
from support.stubborn import have_session

method, gil, folder = sys.argv[1:]

def leave_session():
    if os.fork() == 0:
        os.setsid()
        note_pid(folder, "left")
        time.sleep(600)
    wait_for_file(Path(folder, "left"))
    note_pid(folder, "idle")

def on_event(event):
    if isinstance(event, TaskFinished):
        wait_for_file(Path(folder, "child"))
        note_pid(folder, "parent")
        (ctypes.PyDLL if gil == "held" else ctypes.CDLL)(None).sleep(600)

tasks = [Task("idle", leave_session), Task("busy", have_session, args=(folder,))]
Process(tasks).run(ProcessPool(2, start_method=method), on_event=on_event)
"""


@pytest.mark.parametrize("gil", ["held", "free"])
@every_method
def test_parent_that_dies_takes_idle_workers_along(method: str, gil: str, tmp_path: Path) -> None:
    """With what their tasks left in sessions of their own, also where the parent was stuck with the GIL held."""
    with start_script(PARENT_OF_IDLE_WORKER, method, gil, str(tmp_path)) as parent:
        wait_for_file(tmp_path / "parent")
        everybody = {child.pid for child in psutil.Process(parent.pid).children(recursive=True)}
        everybody |= set(pids_in(tmp_path).values())
        parent.kill()
        parent.wait()
    assert {path.name for path in tmp_path.iterdir()} == {"parent", "idle", "left", "task", "child"}
    assert len(everybody) == 6  # the keeper
    assert living(list(everybody), within=5.0) == []


# ---- what has a name -------------------------------------------------------------------------------------------------


def own_names(folder: str, then: Callable[[], object]) -> None:
    """Have a semaphore and shared memory, which have names in /dev/shm, to the end of this process; note the names."""
    semaphore, memory = multiprocessing.get_context("spawn").Semaphore(), SharedMemory(create=True, size=10)
    os.__dict__["kept_by_test"] = semaphore, memory
    names = f"sem.{semaphore._semlock.name.lstrip('/')}", memory.name.lstrip("/")  # type: ignore[attr-defined]
    assert all(os.path.exists(f"/dev/shm/{name}") for name in names)
    Path(folder, str(os.getpid())).write_text(" ".join(names))
    then()


def hang() -> None:
    time.sleep(600)


def hang_beside_children() -> None:
    """Children of multiprocessing's hold the tracker's pipe as well."""
    with multiprocessing.get_context("spawn").Pool(1) as children:
        children.map(time.sleep, [600])


@every_method
def test_names_of_a_dead_task_are_gone_with_it(method: str, tmp_path: Path) -> None:
    """Killed, crashed, or ended with the run: its resource tracker has time to remove what it left in /dev/shm."""
    thens: list[Callable[[], object]] = [hang, hang_beside_children, os.abort, os.getpid]
    tasks = [
        Task(f"t{number}", own_names, args=(str(tmp_path), then), timeout=3.0 if number < 2 else 60)
        for number, then in enumerate(thens)
    ]
    report = Process(tasks).run(pool(method, 1))
    noted = [name for path in tmp_path.iterdir() for name in path.read_text().split()]
    assert len(noted) == 2 * len(tasks)
    assert [name for name in noted if os.path.exists(f"/dev/shm/{name}")] == []
    kinds = {
        name: entry.error.exception_type.rpartition(".")[2] for name, entry in report.errored.items() if entry.error
    }
    assert kinds == {"t0": "TaskTimeoutError", "t1": "TaskTimeoutError", "t2": "WorkerCrashedError"}
