"""What is told of a run while it goes on, on scripted events: each thing once, in order, whatever the listener does."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from processes import TaskFinished, TaskRetried, TaskStarted, TaskTimeoutError, runner
from processes.attempt import Call
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    BackendEvent,
    RecordsLogged,
    RunBroken,
    TroubleSeen,
)
from processes.failure import of_error
from processes.observer import Observer, RunEvent
from processes.runner import Outcome, Plan
from processes.spec import PLAIN, TaskSpec
from processes.usage import Measure
from support.scripted import ScriptedBackend

FAILURE = of_error(ValueError("no"))

#: Wall-clock times are CLOCK_MONOTONIC and an offset: an attempt of these instants began half a second before it ended.
MEASURE = Measure(100.0, 100.5, 4711)

#: A fail-safe that no passing test meets.
WAIT_S = 50.0


def failed(attempt_id: int, *, retryable: bool = False, was_made: bool = True) -> AttemptFailed:
    return AttemptFailed(attempt_id, FAILURE, retryable, MEASURE, was_made=was_made)


def succeeded(*attempt_ids: int) -> AttemptsSucceeded:
    return AttemptsSucceeded(attempt_ids, [7] * len(attempt_ids), [MEASURE] * len(attempt_ids))


class Scripted(ScriptedBackend):
    """Ends what is to be cancelled, at the next wait. An empty batch is that nothing happens until time itself does."""

    def __init__(self, *batches: list[BackendEvent], slots: int = 2) -> None:
        super().__init__(*batches, slots=slots)
        self.errors: list[BaseException] = []

    def wait(self, until: float | None) -> list[BackendEvent]:
        """The next batch."""
        events = super().wait(until)
        if not events and until is not None:
            time.sleep(max(0.0, until - time.monotonic()))
        return events

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        """Note the error."""
        self.errors.append(error)
        self._batches.insert(0, [AttemptFailed(attempt_id, of_error(error), False, MEASURE, error)])


def play(
    specs: dict[str, TaskSpec],
    *batches: list[BackendEvent],
    slots: int = 2,
    deadline: float | None = None,
    fail_fast: bool = False,
    on_event: Callable[[RunEvent], object] | None = None,
) -> tuple[list[str], Outcome, Scripted]:
    """Run tasks on a script: what was told, shortly; the outcome; the backend."""
    told: list[str] = []

    def listen(event: RunEvent) -> None:
        told.append(shortly(event))
        if on_event is not None:
            on_event(event)

    observer, backend = Observer(listen), Scripted(*batches, slots=slots)
    calls = [Call(name, len, (), {}) for name in specs]
    plan = Plan(list(specs.values()), calls, [None] * len(specs), lambda _: [])
    outcome = runner.run(plan, backend, deadline=deadline, fail_fast=fail_fast, observer=observer)
    observer.stop()
    outcome.warnings += observer.troubles
    return told, outcome, backend


def shortly(event: RunEvent) -> str:
    match event:
        case TaskStarted():
            return f"{event.name} started {event.attempt} in {event.worker_pid}"
        case TaskRetried():
            return f"{event.name} retried after {event.attempt}: {event.error}, {event.delay}"
        case TaskFinished(entry):
            return f"{entry.name} {entry.status.value}{f': {entry.why}' if entry.why else ''}"
        case _:
            return type(event).__name__


#: {name: task} of tasks that need nothing.
A, AB = {"a": PLAIN}, {"a": PLAIN, "b": PLAIN}


def test_start_is_told_before_the_end_also_where_a_backend_left_it_out() -> None:
    """Of attempts that end at once; one that it did tell of is told once."""
    told, _, _ = play(AB, [AttemptStarted(1, 100.0, 4711)], [succeeded(1, 2)])
    assert told == ["a started 1 in 4711", "b started 1 in 4711", "a success", "b success"]


def test_each_attempt_and_each_retry_is_told() -> None:
    """With its number, its error and how long the next one waits."""
    spec = TaskSpec(retries=2, retry_delays=(0.0, 0.001))
    told, _, _ = play({"a": spec}, [failed(1, retryable=True)], [failed(2, retryable=True)], [], [failed(3)])
    assert told == [
        "a started 1 in 4711",
        "a retried after 1: ValueError: no, 0.0",
        "a started 2 in 4711",
        "a retried after 2: ValueError: no, 0.001",
        "a started 3 in 4711",
        "a errored",
    ]


def test_attempt_that_was_not_made_is_not_told() -> None:
    """Neither one that came back, nor one whose arguments cannot be sent."""
    told, _, _ = play(AB, [AttemptReturned(1), failed(2, was_made=False)], [succeeded(3)])
    assert told == ["b errored", "a started 1 in 4711", "a success"]


def test_skipped_task_is_told_with_its_reason() -> None:
    """After what it is skipped for."""
    told, _, _ = play({"a": PLAIN, "after": TaskSpec((0,))}, [failed(1)])
    assert told == ["a started 1 in 4711", "a errored", "after skipped: it depends on 'a', which failed"]


def test_records_and_troubles_are_not_told() -> None:
    """They are for logs and report."""
    told, outcome, _ = play(A, [RecordsLogged(1, []), TroubleSeen("odd"), succeeded(1)])
    assert told == ["a started 1 in 4711", "a success"]
    assert outcome.warnings == ["odd"]


def test_deadline_ends_what_runs_and_all_of_it_is_told() -> None:
    """What runs is cancelled with a TaskTimeoutError of the run's, what waits is skipped."""
    told, _, backend = play(AB, [], slots=1, deadline=0.001)
    assert told == ["b skipped: the run's deadline of 0.001s passed", "a started 1 in 4711", "a errored"]
    (error,) = backend.errors
    assert isinstance(error, TaskTimeoutError)
    assert error.is_deadline


def test_fail_fast_starts_nothing_more_and_lets_what_runs_end() -> None:
    """The rest is skipped at once, and says for which task."""
    told, _, backend = play({"a": PLAIN, "b": PLAIN, "c": PLAIN}, [failed(1)], [succeeded(2)], fail_fast=True)
    assert told == [
        "a started 1 in 4711",
        "a errored",
        "c skipped: 'a' failed, and the run was to stop at the first failure",
        "b started 1 in 4711",
        "b success",
    ]
    assert backend.started == [1, 2]


def test_end_of_a_broken_run_is_told_of_every_task() -> None:
    """What comes afterwards is not."""
    told, _, _ = play(AB, [RunBroken(RuntimeError("gone")), succeeded(1)])
    assert told == ["a skipped: the run broke off: gone", "b skipped: the run broke off: gone"]


def test_listener_has_a_thread_of_its_own_and_holds_nothing_up() -> None:
    """All of the run has happened while it is at its first event; nothing is lost, and the end waits for it."""
    is_closed = threading.Event()
    threads = set()

    class Closing(Scripted):
        def close(self) -> None:
            super().close()
            is_closed.set()

    def wait(_: RunEvent) -> None:
        threads.add(threading.current_thread().name)
        assert is_closed.wait(WAIT_S)

    observer = Observer(wait)
    plan = Plan([PLAIN] * 5, [Call(f"t{number}", len, (), {}) for number in range(5)], [None] * 5, lambda _: [])
    runner.run(plan, Closing([succeeded(*range(1, 6))], slots=5), observer=observer)
    assert is_closed.is_set()
    observer.stop()
    assert observer.troubles == []
    assert threads == {"processes-on-event"}


def test_listener_that_raises_is_told_everything_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Also a SystemExit of it; the program's logs have the first traceback."""

    def explode(_: RunEvent) -> None:
        raise SystemExit("mine")

    with caplog.at_level(logging.ERROR, "processes"):
        told, outcome, _ = play(AB, [succeeded(1, 2)], on_event=explode)
    assert told == ["a started 1 in 4711", "b started 1 in 4711", "a success", "b success"]
    assert outcome.warnings == ["on_event raised SystemExit: mine"]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_what_is_told_while_the_listener_is_paused_waits() -> None:
    """A run that forks has no threads for a moment."""
    told: queue.SimpleQueue[RunEvent] = queue.SimpleQueue()
    observer = Observer(told.put)
    observer.start()
    with observer.paused():
        assert not [thread for thread in threading.enumerate() if thread.name == "processes-on-event"]
        observer.tell(TaskRetried("a", 1, "E", 0.0))
        assert told.empty()
    assert told.get(timeout=WAIT_S) == TaskRetried("a", 1, "E", 0.0)
    observer.stop()
    observer.stop()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Each test ends its listener."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "processes-on-event"]
