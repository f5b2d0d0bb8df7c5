"""Memory: limits that hold, and figures that are right."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from processes import MemoryLimitError, Process, ProcessPool, Task, TaskCheckError, TaskDependency
from processes.attempt import Call
from processes.backends.pool import PoolBackend
from support.faults import MIB, fill, fill_and_wait
from support.notes import note_pid, wait_for_file
from support.pools import every_method, failures, living, pool, results, run


def fill_and_free(size: int) -> int:
    fill(size).close()
    return os.getpid()


@every_method
def test_memory_within_the_limit_is_allowed(method: str) -> None:
    """What the worker held before does not count, nor does an input that it only reads."""
    data = bytearray(b"x") * (150 * MIB)
    tasks = [
        Task("below", fill_and_hold_briefly, args=(60 * MIB,), memory_limit="100MiB"),
        Task("reads", count_x, args=(data,), memory_limit="300MiB"),
    ]
    report = run(tasks, pool(method))
    assert failures(report) == {}


def count_x(data: bytearray) -> int:
    time.sleep(0.1)
    return data.count(b"x")


def fill_and_hold_briefly(size: int) -> None:
    memory = fill(size)
    time.sleep(0.1)
    memory.close()


@every_method
def test_peak_is_seen_and_taints_no_later_task(method: str) -> None:
    """A spike of 300 MB shows in its own task's usage, to some MiB; the next one in its worker has its own."""
    tasks = [
        Task("before", fill_and_free, args=(MIB,)),
        Task("spike", fill_and_free, args=(300 * MIB,)),
        Task("after", fill_and_free, args=(MIB,)),
    ]
    report = run(tasks, pool(method, 1))
    assert len(set(results(report).values())) == 1
    peaks = {name: entry.usage.peak_memory or 0 for name, entry in report.entries.items() if entry.usage}
    before = peaks["before"]  # A fork has what this process has.
    assert 297 * MIB < peaks["spike"] - before < 303 * MIB
    assert abs(peaks["after"] - before) < 10 * MIB


# ---- the budget of all tasks together --------------------------------------------------------------------------------


def fill_until_gone(folder: str, size: int) -> str:
    """Holds memory until the process that is noted there has ended."""
    memory = fill(size)
    await_end(folder)
    memory.close()
    return "held"


def await_end(folder: str) -> None:
    pid = int(wait_for_file(Path(folder, "noted")))
    if living([pid], within=30):
        raise TimeoutError


def fill_too_much(folder: str, size: int) -> None:
    note_pid(folder, "noted")
    fill_and_wait(size)


@every_method
def test_budget_that_is_passed_ends_the_largest(method: str, tmp_path: Path) -> None:
    """It is blamed with its own size, though the others had their part in it; they go on."""
    tasks = [
        Task("modest", fill_until_gone, args=(str(tmp_path), 60 * MIB)),
        Task("greedy", fill_too_much, args=(str(tmp_path), 300 * MIB), timeout=60),
        Task("after", os.getpid, dependencies=[TaskDependency("modest")]),
    ]
    report = run(tasks, pool(method, memory_budget="150MiB"))
    error = report.entries["greedy"].exception
    assert failures(report) == {"greedy": "MemoryLimitError"}
    assert isinstance(error, MemoryLimitError)
    assert (error.limit, error.is_budget) == (150 * MIB, True)
    assert 75 * MIB < error.used < 400 * MIB
    assert "memory budget of 150 MiB" in str(error)


def pass_in_pairs(folder: Path, number: int) -> int:
    """Waits for the other of its pair; returns how many run at that time."""
    (folder / f"{number}.runs").touch()
    (folder / f"came{number}").write_text("came")
    wait_for_file(folder / f"came{number ^ 1}")
    count = len(list(folder.glob("*.runs")))
    (folder / f"{number}.runs").unlink()
    return count


@every_method
def test_task_waits_for_room_in_the_budget(method: str, tmp_path: Path) -> None:
    """Of those that may use 40 MiB each, two run at a time within 100 MiB, never more, whatever the workers."""
    tasks = [Task(f"t{n}", pass_in_pairs, args=(tmp_path, n), memory_limit="40MiB", timeout=60) for n in range(8)]
    report = run(tasks, pool(method, 6, memory_budget="100MiB"))
    assert failures(report) == {}
    assert set(results(report).values()) <= {1, 2}
    assert {entry.attempts for entry in report.entries.values()} == {1}


def hold_until_started(folder: Path, size: int) -> bool:
    """Returns whether the one that must not start has started while this one holds its memory; then lets it start."""
    memory = fill(size)
    wait_for_file(folder / "refused")
    has_started = (folder / "started").exists()
    memory.close()
    wait_for_file(folder / "started")
    return has_started


@every_method
def test_task_waits_until_what_others_use_has_room_for_it(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not known before, it is looked at; a task that found no room starts when there is some again."""
    has_room, hold_to = PoolBackend._has_budget_for, PoolBackend._hold_to_budget

    def watched_has_room(self: PoolBackend, call: Call, budget: int) -> bool:
        found = has_room(self, call, budget)
        if not found:
            (tmp_path / "refused").write_text("refused")
        return found

    def watched_hold_to(self: PoolBackend, budget: int) -> None:
        hold_to(self, budget)
        if sum(self._held.values()) > 150 * MIB:
            (tmp_path / "seen").write_text("seen")

    monkeypatch.setattr(PoolBackend, "_has_budget_for", watched_has_room)
    monkeypatch.setattr(PoolBackend, "_hold_to_budget", watched_hold_to)
    tasks = [
        Task("holds", hold_until_started, args=(tmp_path, 155 * MIB)),
        Task("sees", wait_for_file, args=(tmp_path / "seen",)),
        Task(
            "waits", note_pid, args=(tmp_path, "started"), memory_limit="140MiB", dependencies=[TaskDependency("sees")]
        ),
    ]
    report = run(tasks, pool(method, memory_budget="250MiB"))
    assert results(report) == {"holds": False, "sees": "seen", "waits": None}


@every_method
def test_task_that_needs_the_whole_budget_runs_alone(method: str) -> None:
    """What is asked for and not used harms nobody; and what no other is beside may start, whatever idle ones hold."""
    tasks = [Task(f"t{n}", fill_and_free, args=(60 * MIB,), memory_limit="100MiB") for n in range(4)]
    report = run(tasks, pool(method, 3, memory_budget="100MiB"))
    assert failures(report) == {}


def fill_when_idle(folder: Path, size: int) -> str:
    wait_for_file(folder / "idle")
    return fill_until_gone(str(folder), size)


@every_method
def test_idle_worker_makes_room_in_the_budget(method: str, tmp_path: Path) -> None:
    """What it has kept is not the fault of who runs: the idle one is ended."""
    tasks = [
        Task("keeps", keep, args=(str(tmp_path), 150 * MIB)),
        Task("fills", fill_when_idle, args=(tmp_path, 160 * MIB)),
        Task("tells", note_pid, args=(tmp_path, "idle"), dependencies=[TaskDependency("keeps")]),
    ]
    report = run(tasks, pool(method, memory_budget="250MiB"))
    assert failures(report) == {}
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("budget", "kind"), [("lots", ValueError), (0, ValueError), (True, TypeError), (1.5, TypeError)]
)
def test_budget_is_a_size(budget: Any, kind: type[Exception]) -> None:  # noqa: ANN401  of a wrong type
    """Anything else is refused when the pool is made."""
    with pytest.raises(kind, match="memory_budget: a size is"):
        ProcessPool(memory_budget=budget)


def test_limit_above_the_budget_is_refused() -> None:
    """It could never be used: it is said before anything starts, by `check` too."""
    process = Process([Task("t", os.getpid, memory_limit="2GiB"), Task("u", os.getpid, memory_limit="1GiB")])
    with pytest.raises(TaskCheckError, match="memory_budget=1073741824") as caught:
        process.run(ProcessPool(memory_budget="1GiB"))
    assert (caught.value.task_name, caught.value.what) == ("t", "memory_limit")
    with pytest.raises(ExceptionGroup) as group:
        process.check(ProcessPool(memory_budget="1GiB"))
    assert len(group.value.exceptions) == 1


# ---- workers that have grown -----------------------------------------------------------------------------------------


def keep(folder: str, size: int) -> None:
    """What it fills stays until the worker ends."""
    os.__dict__.setdefault("kept_by_test", []).append(fill(size))
    note_pid(folder, "noted")


@every_method
def test_grown_worker_that_idles_is_replaced(method: str, tmp_path: Path) -> None:
    """One that holds 200 MB more than at its start is ended; the growth is on record, and nobody is blamed."""
    tasks = [
        Task("grows", keep, args=(str(tmp_path), 200 * MIB)),
        Task("watcher", await_end, args=(str(tmp_path),)),
        Task("after", os.getpid, dependencies=[TaskDependency("watcher")]),
    ]
    report = run(tasks, pool(method))
    usage = report.entries["grows"].usage
    assert failures(report) == {}
    assert usage is not None
    assert 200 * MIB <= (usage.memory_growth or 0) < 250 * MIB
    assert report.entries["after"].result != report.entries["grows"].worker_pid


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def burn_in_child(seconds: float) -> None:
    pid = os.fork()
    if pid == 0:
        burn(seconds)
        os._exit(0)
    os.waitpid(pid, 0)


@every_method
def test_cpu_time_is_the_attempts_own(method: str) -> None:
    """What a task and the children that it waited for used, and not what the one before did."""
    tasks = [
        Task("busy", burn, args=(0.6,)),
        Task("child", burn_in_child, args=(0.6,)),
        Task("idle", time.sleep, args=(0.05,)),
    ]
    report = run(tasks, pool(method, 1))
    cpu = {
        name: (entry.usage.cpu_user or 0.0) + (entry.usage.cpu_system or 0.0)
        for name, entry in report.entries.items()
        if entry.usage
    }
    assert 0.55 < cpu["busy"] < 1.1
    assert 0.55 < cpu["child"] < 1.1
    assert cpu["idle"] < 0.5
