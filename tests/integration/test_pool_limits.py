"""Memory: limits that hold, and figures that are right."""

import os
import time
from pathlib import Path

from processes import Task, TaskDependency
from support.faults import MIB, fill
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
    """A spike of 200 MB shows in its own task's usage; the next one in the same worker has its own small peak."""
    tasks = [
        Task("before", fill_and_free, args=(MIB,)),
        Task("spike", fill_and_free, args=(200 * MIB,)),
        Task("after", fill_and_free, args=(MIB,)),
    ]
    report = run(tasks, pool(method, 1))
    assert len(set(results(report).values())) == 1
    peaks = {name: entry.usage.peak_memory or 0 for name, entry in report.entries.items() if entry.usage}
    before = peaks["before"]  # A fork has what this process has.
    assert before + 180 * MIB <= peaks["spike"] < before + 250 * MIB
    assert peaks["after"] < before + 50 * MIB


def keep(folder: str, size: int) -> None:
    """What it fills stays until the worker ends."""
    os.__dict__.setdefault("kept_by_test", []).append(fill(size))
    note_pid(folder, "grown")


def await_replacement(folder: str) -> None:
    """The other worker ends while it idles and the run goes on."""
    pid = int(wait_for_file(Path(folder, "grown")))
    if living([pid], within=20):
        raise TimeoutError


@every_method
def test_grown_worker_that_idles_is_replaced(method: str, tmp_path: Path) -> None:
    """One that holds 200 MB more than at its start is ended; the growth is on record, and nobody is blamed."""
    tasks = [
        Task("grows", keep, args=(str(tmp_path), 200 * MIB)),
        Task("watcher", await_replacement, args=(str(tmp_path),)),
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
