"""What `on_event` is called with, in every mode."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from processes import (
    Process,
    RunFinished,
    RunStarted,
    Task,
    TaskDependency,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    TaskStatus,
)
from processes.observer import RunEvent


def fail_once(path: str) -> str:
    """Raise at the first attempt."""
    if not os.path.exists(path):
        Path(path).touch()
        message = "not yet"
        raise ConnectionError(message)
    return "done"


def test_events_tell_the_whole_run(mode: str | None, tmp_path: Path) -> None:
    """From its start to its report; of each task every attempt, every retry and its end, in that order."""
    told: list[RunEvent] = []
    tasks = [
        Task("again", fail_once, args=(str(tmp_path / "tried"),), retries=3, retry_delay=0.01),
        Task("fails", int, args=("x",)),
        Task("after", int, dependencies=[TaskDependency("fails")]),
    ]
    before = datetime.now(UTC)
    report = Process(tasks, name="batch").run(mode, on_event=told.append)
    first, *middle, last = told
    assert isinstance(first, RunStarted)
    assert (first.process_name, first.tasks) == ("batch", 3)
    assert before <= first.at <= datetime.now(UTC)
    assert isinstance(last, RunFinished)
    assert last.report is report
    of = {name: [event for event in middle if name_of(event) == name] for name in report.entries}
    assert sum(map(len, of.values())) == len(middle)
    started, retried, restarted, finished = of["again"]
    assert isinstance(started, TaskStarted)
    assert isinstance(restarted, TaskStarted)
    assert retried == TaskRetried("again", 1, "ConnectionError: not yet", 0.01)
    assert (started.attempt, restarted.attempt) == (1, 2)
    assert first.at <= started.at <= restarted.at
    entry = report.entries["again"]
    assert restarted.worker_pid == entry.worker_pid
    assert (entry.worker_pid is not None) == (mode == "processes")
    assert finished == TaskFinished(entry)
    assert [type(event) for event in of["fails"]] == [TaskStarted, TaskFinished]
    assert of["after"] == [TaskFinished(report.entries["after"])]
    assert report.entries["after"].status is TaskStatus.SKIPPED


def name_of(event: RunEvent) -> str | None:
    match event:
        case TaskFinished(entry):
            return entry.name
        case TaskStarted(name) | TaskRetried(name):
            return name
        case _:
            return None


def test_events_come_from_a_thread_of_their_own(mode: str | None) -> None:
    """They come from no thread of the program's, and from none that is there afterwards."""
    threads: set[threading.Thread] = set()
    Process([Task("a", int)]).run(mode, on_event=lambda _: threads.add(threading.current_thread()))
    assert {thread.name for thread in threads} == {"processes-on-event"}
    assert not any(thread.is_alive() for thread in threads)


def test_listener_that_raises_costs_nothing_but_a_warning(mode: str | None) -> None:
    """The report has it, and every event is told all the same."""
    told: list[RunEvent] = []

    def listen(event: RunEvent) -> None:
        told.append(event)
        raise LookupError("mine")

    report = Process([Task("a", int)]).run(mode, on_event=listen)
    assert report.warnings == ("on_event raised LookupError: mine",)
    assert [type(event) for event in told] == [RunStarted, TaskStarted, TaskFinished, RunFinished]


def test_listener_that_cannot_be_called_is_refused(mode: str | None) -> None:
    """Before anything runs."""
    with pytest.raises(TypeError, match="on_event must be callable"):
        Process([Task("a", int)]).run(mode, on_event=5)  # type: ignore[arg-type]


def test_fail_fast_starts_nothing_more(mode: str | None) -> None:
    """What has not started is skipped, and says for whom."""
    tasks = [
        Task("fails", int, args=("x",)),
        *(Task(f"t{n}", int, dependencies=[TaskDependency("first")]) for n in "ab"),
    ]
    tasks.append(Task("first", int, dependencies=[TaskDependency("ok")]))
    tasks.append(Task("ok", int))
    report = Process(tasks).run(mode, 1, fail_fast=True)
    assert list(report.errored) == ["fails"]
    assert {entry.why for entry in report.skipped.values()} == {
        "'fails' failed, and the run was to stop at the first failure"
    }
    assert {"first", "ta", "tb"} <= set(report.skipped)
