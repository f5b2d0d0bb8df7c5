"""Attempts that were placed behind the one whose result they take: they are made right after it, or not at all."""

from __future__ import annotations

import logging
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processes import Process, Task, TaskDependency, TaskFinished, TaskStatus, WorkerCrashedError, wire
from processes.backends.pool import PoolBackend
from processes.events import AttemptReturned
from support.logs import told
from support.pools import every_method, failures, pool, results, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from processes.child import Child
    from processes.events import BackendEvent, StartAttempt
    from processes.wire import Message


class Seen:
    """What became of followers: those that were placed, those that came back, and those that a worker left out."""

    def __init__(self) -> None:
        self.placed: set[int] = set()
        self.returned: set[int] = set()
        self.left_out: set[int] = set()

    @property
    def made(self) -> set[int]:
        """Those that were made where they had been placed."""
        return self.placed - self.returned


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Of all runs in the test."""
    seen = Seen()
    start, take_events, handle = PoolBackend.start, PoolBackend._take_events, PoolBackend._handle_child

    def watched_start(self: PoolBackend, job: StartAttempt) -> None:
        if job.follows:
            seen.placed.add(job.attempt_id)
        start(self, job)

    def watched_take_events(self: PoolBackend) -> list[BackendEvent]:
        events = take_events(self)
        seen.returned |= {event.attempt_id for event in events if isinstance(event, AttemptReturned)}
        return events

    def watched_handle(self: PoolBackend, child: Child, message: Message) -> None:
        if message.kind == wire.UNMADE:
            seen.left_out.add(message.id)
        handle(self, child, message)

    monkeypatch.setattr(PoolBackend, "start", watched_start)
    monkeypatch.setattr(PoolBackend, "_take_events", watched_take_events)
    monkeypatch.setattr(PoolBackend, "_handle_child", watched_handle)
    return seen


def add_one(number: int = 0) -> int:
    return number + 1


def chain(
    length: int,
    func: Callable[..., object] = add_one,
    *,
    takes_result: bool = True,
    special: dict[int, Task] | None = None,
    log_path: Path | None = None,
) -> list[Task]:
    """`t0` to `t{length - 1}`, each behind the one before it; some of them may be given."""
    tasks: list[Task] = []
    for number in range(length):
        task = (special or {}).get(number) or Task(f"t{number}", func, log_path)
        if number:
            task.dependencies.append(TaskDependency(f"t{number - 1}", takes_result))
        tasks.append(task)
    return tasks


@every_method
def test_chain_is_made_without_asking_in_between(method: str, seen: Seen) -> None:
    """Every result is the next one's argument; many are placed before the one that they take has returned."""
    report = run(chain(300), pool(method))
    assert results(report) == {f"t{number}": number + 1 for number in range(300)}
    assert len(seen.made) > 30
    assert {entry.attempts for entry in report.entries.values()} == {1}


def test_report_tells_of_followers_what_it_tells_of_others(seen: Seen) -> None:
    """Each has its own times, one after the other."""
    entries = list(run(chain(200), pool("forkserver")).entries.values())
    for before, after in pairwise(entries):
        assert before.started_at is not None
        assert before.ended_at is not None
        assert after.started_at is not None
        assert before.started_at <= before.ended_at <= after.started_at
        assert after.usage is not None
    assert seen.made


def fail(number: int = 0) -> None:
    raise ValueError(number)


@every_method
@pytest.mark.parametrize("takes_result", [True, False])
def test_what_follows_a_failure_is_not_made(method: str, takes_result: bool, seen: Seen) -> None:
    """Whether it takes a result or only waits: those before have their results, those behind are skipped for it."""
    count = 30
    tasks = []
    for number in range(count):
        names = chain(12, takes_result=takes_result, special={6: Task("t6", fail)})
        for task in names:
            task.name = f"{number}.{task.name}"
            for dependency in task.dependencies:
                dependency.task_name = f"{number}.{dependency.task_name}"
        tasks += names
    report = run(tasks, pool(method))
    assert failures(report) == {f"{number}.t6": "ValueError" for number in range(count)}
    assert len(report.successes) == 6 * count
    for number in range(count):
        for behind in range(7, 12):
            entry = report.entries[f"{number}.t{behind}"]
            assert (entry.status, entry.attempts) == (TaskStatus.SKIPPED, 0)
            assert entry.why == f"it depends on '{number}.t6', which failed"
    assert seen.made


def fail_first(mark: Path, number: int) -> int:
    if not mark.exists():
        mark.touch()
        raise ConnectionError(number)
    return number + 1


@every_method
def test_what_is_to_follow_a_retry_is_made_after_it(method: str, tmp_path: Path, seen: Seen) -> None:
    """A worker leaves it out when the first attempt fails; it counts no attempt for that."""
    special = {
        number: Task(f"t{number}", fail_first, args=(tmp_path / str(number),), retries=1)
        for number in range(10, 100, 10)
    }
    report = run(chain(100, special=special), pool(method))
    assert results(report) == {f"t{number}": number + 1 for number in range(100)}
    assert {name: entry.attempts for name, entry in report.entries.items() if entry.attempts != 1} == {
        f"t{number}": 2 for number in special
    }
    assert seen.left_out


def crash(number: int) -> None:
    os._exit(number)


@every_method
def test_follower_that_crashes_takes_the_blame(method: str, seen: Seen) -> None:
    """Not the one before it, whose result stands, and none behind it, which have not begun."""
    report = run(chain(60, special={30: Task("t30", crash)}), pool(method))
    assert failures(report) == {"t30": "WorkerCrashedError"}
    assert results(report) == {f"t{number}": number + 1 for number in range(30)}
    assert len(report.skipped) == 29
    assert seen.made


def crash_first(mark: Path, number: int) -> int:
    if not mark.exists():
        mark.touch()
        os._exit(3)
    return number + 1


@every_method
def test_chain_goes_on_in_another_worker(method: str, tmp_path: Path, seen: Seen) -> None:
    """Where a retry covers the crash."""
    retried = Task("t30", crash_first, args=(tmp_path / "mark",), retries=1, retry_on=(WorkerCrashedError,))
    report = run(chain(60, special={30: retried}), pool(method))
    assert results(report) == {f"t{number}": number + 1 for number in range(60)}
    assert report.entries["t30"].attempts == 2
    assert seen.made


def hang(number: int) -> None:
    time.sleep(600 + number)


@every_method
def test_follower_has_its_own_time_out(method: str, seen: Seen) -> None:
    """It begins with the follower, and takes nothing else along."""
    report = run(chain(60, special={30: Task("t30", hang, timeout=0.2)}), pool(method))
    assert failures(report) == {"t30": "TaskTimeoutError"}
    assert len(report.successes) == 30
    assert len(report.skipped) == 29
    assert seen.made


def more(data: bytes = b"") -> bytes:
    return data + b"x" * 50_000


def test_large_results_of_a_chain(seen: Seen) -> None:
    """Those that do not come back by the page, or in no datagram: a follower is left out or made, none goes wrong."""
    report = run(chain(30, more), pool("forkserver"))
    assert {name: len(result) for name, result in results(report).items()} == {
        f"t{number}": 50_000 * (number + 1) for number in range(30)
    }
    assert seen.placed


def length_of(data: bytes, number: int) -> int:
    return len(data) + number


def test_large_arguments_are_not_sent_ahead(seen: Seen) -> None:
    """What has more to send than fits the page waits for its dependency."""
    special = {number: Task(f"t{number}", length_of, args=(b"x" * 100_000,)) for number in range(20, 40)}
    report = run(chain(60, special=special), pool("forkserver"))
    assert report.entries["t59"].result == 60 + 20 * (100_000 - 1)
    assert seen.placed & seen.returned
    assert not seen.left_out


def log_and_add(name: str, number: int) -> int:
    logging.getLogger(name).info("%s adds", name)
    return number + 1


@every_method
def test_shared_logfile_has_a_chain_in_its_order(method: str, tmp_path: Path, seen: Seen) -> None:
    """The end of each stands before the start of the next one, and what each logs between its own."""
    path = tmp_path / "chain.log"
    special = {number: Task(f"t{number}", log_and_add, path, args=(f"t{number}",)) for number in range(1, 80)}
    special[0] = Task("t0", add_one, path)
    with Process(chain(80, special=special)) as process:
        assert failures(process.run(pool(method))) == {}
    expected = ["Starting t0.", "Finished t0."]
    for number in range(1, 80):
        expected += [f"Starting t{number}.", f"t{number} adds", f"Finished t{number}."]
    assert [message for _, message in told(path)] == expected
    assert seen.made


def log_line(name: str, size: int) -> bytes:
    logging.getLogger("etl").info("line of %s", name)
    print("output of", name)
    if size < 0:
        raise ValueError(name)
    return b"x" * size


@every_method
@pytest.mark.parametrize("rare", [5_000, 200_000, -1], ids=["by channel", "by file", "failure"])
def test_each_logfile_has_what_its_task_logged(method: str, rare: int, tmp_path: Path) -> None:
    """Also where outcomes come now by the page and now by the channel, and many attempts are placed at a time."""
    names = [f"t{number}" for number in range(100)]
    sizes = [rare if number % 7 == 3 else 1 for number in range(100)]
    tasks = [
        Task(name, log_line, tmp_path / name, args=(name, size), capture_output=size == 1 and number % 2 == 0)
        for number, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    with Process(tasks) as process:
        process.run(pool(method))
    for task in tasks:
        lines = [message for _, message in told(tmp_path / task.name)]
        output = [f"output of {task.name}"] if task.capture_output else []
        end = task.name if task.args[1] < 0 else f"Finished {task.name}."
        assert sorted(lines[1:-1]) == sorted([f"line of {task.name}", *output])
        assert (lines[0], lines[-1]) == (f"Starting {task.name}.", end)


def announce(name: str) -> None:
    logging.getLogger("etl").info("%s begins", name)


def test_initializer_that_logs_costs_no_task_its_lines(tmp_path: Path) -> None:
    """Its records belong to none."""
    tasks = [Task(f"t{number}", log_line, tmp_path / f"t{number}", args=(f"t{number}", 1)) for number in range(60)]
    with Process(tasks) as process:
        process.run(pool("forkserver", initializer=announce, initargs=("a child",)))
    for task in tasks:
        assert (logging.getLevelName(logging.INFO), f"line of {task.name}") in told(tmp_path / task.name)


def long_or_short(number: object = 0) -> bytes | int:
    logging.getLogger("etl").info("in turn")
    return b"x" * 5_000 if isinstance(number, int) else 0


def test_ends_of_a_chain_are_told_in_its_order(tmp_path: Path, seen: Seen) -> None:
    """Whichever way they come."""
    finished: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, TaskFinished):
            finished.append(event.entry.name)

    with Process(chain(100, long_or_short, log_path=tmp_path / "log")) as process:
        process.run(pool("forkserver", 1), on_event=note)
    assert finished == [f"t{number}" for number in range(100)]
    assert seen.made


def wait_a_little(*_: object) -> int:
    time.sleep(0.001)
    return 1


def make_large(*_: object) -> bytes:
    return b"x" * 400_000


def fail_a_little_later(*_: object) -> None:
    time.sleep(0.001)
    raise ValueError("wrong")


@pytest.mark.parametrize("repeat", range(3))
def test_follower_that_waits_for_its_channel_is_left_out(repeat: int) -> None:
    """It has a large input and is skipped before its message was sent: that is sent all the same, and others go on."""
    tasks = [Task(f"warm{number}", add_one) for number in range(60)]
    wanted = [TaskDependency(task.name) for task in tasks]
    tasks.append(Task("large", make_large, keep_result=False, dependencies=wanted))
    tasks.append(Task("slow", time.sleep, args=(0.05,), dependencies=[TaskDependency("large")]))
    tasks += [
        Task(f"full{number}", wait_a_little, args=(b"%d" % number + b"x" * 120_000,), dependencies=wanted)
        for number in range(12)
    ]
    tasks.append(Task("bad", fail_a_little_later, dependencies=[TaskDependency("slow")]))
    tasks.append(Task("f", wait_a_little, dependencies=[TaskDependency("large", True), TaskDependency("bad", True)]))
    tasks += [Task(f"z{number}", wait_a_little, dependencies=[TaskDependency("slow")]) for number in range(40)]
    report = Process(tasks).run(pool("forkserver"), deadline=60.0)
    assert failures(report) == {"bad": "ValueError"}
    assert [(name, entry.why) for name, entry in report.skipped.items()] == [("f", "it depends on 'bad', which failed")]


def test_value_that_is_not_kept_is_freed_behind_its_follower(seen: Seen) -> None:
    """And its consumer has had it."""
    tasks = chain(50)
    for task in tasks[:-1]:
        task.keep_result = False
    report = Process(tasks).run(parallel="processes")
    assert report.entries["t49"].result == 50
    assert {entry.result for entry in list(report.entries.values())[:-1]} == {None}
    assert seen.made
