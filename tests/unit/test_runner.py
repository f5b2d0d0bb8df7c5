"""The loop between backend and scheduler, on scripted events."""

import signal
from collections.abc import Sequence

from processes import runner
from processes.attempt import Call
from processes.events import (
    AttemptFailed,
    AttemptReturned,
    AttemptsSucceeded,
    BackendEvent,
    RunBroken,
    TaskStatus,
    TroubleSeen,
)
from processes.exceptions import RunTerminated, WorkerStartError
from processes.failure import of_error
from processes.logs import Destination
from processes.runner import Outcome, Plan
from processes.spec import PLAIN
from processes.usage import Measure
from support.scripted import ScriptedBackend
from support.signals import as_in_a_new_program

MEASURE = Measure(1.0, 2.0)


def play(tasks: int, *batches: list[BackendEvent]) -> tuple[Outcome, ScriptedBackend]:
    """Run independent tasks on a script."""
    return play_on(ScriptedBackend(*batches), tasks)


def play_on(backend: ScriptedBackend, tasks: int, *, fail_fast: bool = False) -> tuple[Outcome, ScriptedBackend]:
    """Run independent tasks on a backend."""
    calls = [Call(f"t{number}", print, (), {}) for number in range(tasks)]
    plan = Plan([PLAIN] * tasks, calls, [None] * tasks, lambda _: [])
    return runner.run(plan, backend, fail_fast=fail_fast), backend


def statuses(outcome: Outcome) -> list[TaskStatus]:
    """How each task ended."""
    return [record.status for record in outcome.records]


def test_broken_run_ignores_what_its_attempts_still_do() -> None:
    """Children that die because the run broke off return attempts that nobody waits for; warnings still count."""
    error = WorkerStartError("the initializer failed")
    last: list[BackendEvent] = [
        RunBroken(error),
        AttemptReturned(1),
        AttemptsSucceeded((2,), (0,), (MEASURE,)),
        TroubleSeen("late"),
    ]
    outcome, backend = play(3, last)
    assert statuses(outcome) == [TaskStatus.SKIPPED] * 3
    assert (outcome.broken, outcome.warnings, backend.is_closed) == (error, ["late"], True)


def test_returned_attempt_is_placed_again_and_does_not_count() -> None:
    """It was not made, through no fault of its task."""
    outcome, backend = play(1, [AttemptReturned(1)], [AttemptsSucceeded((2,), ("value",), (MEASURE,))])
    assert backend.started == [1, 2]
    assert statuses(outcome) == [TaskStatus.SUCCESS]
    assert [measure for measure, _ in outcome.records[0].attempts] == [MEASURE]


def test_failure_calls_back_what_has_not_begun_where_nothing_is_to_start() -> None:
    """What comes back is skipped, what ran ends."""
    failed = AttemptFailed(1, of_error(ValueError("wrong")), False, MEASURE)
    last: list[BackendEvent] = [AttemptReturned(3), AttemptsSucceeded((2,), ("value",), (MEASURE,))]
    outcome, backend = play_on(ScriptedBackend([failed], last, slots=3), 3, fail_fast=True)
    assert statuses(outcome) == [TaskStatus.ERRORED, TaskStatus.SUCCESS, TaskStatus.SKIPPED]
    assert backend.recalls == 1


class InterruptedBackend(ScriptedBackend):
    """The program gets signals while it opens and while it is waited for; its attempts do not end of it."""

    def __init__(self, *, opening: tuple[signal.Signals, ...] = (), waiting: tuple[signal.Signals, ...] = ()) -> None:
        super().__init__([])
        self._opening = opening
        self._waiting = waiting
        self.cancelled: list[int] = []

    def open(self, calls: Sequence[Call], destinations: Sequence[Destination | None]) -> None:
        for number in self._opening:
            signal.raise_signal(number)

    def cancel(self, attempt_id: int, error: BaseException) -> None:
        self.cancelled.append(attempt_id)

    def wait(self, until: float | None) -> list[BackendEvent]:
        for number in self._waiting:
            signal.raise_signal(number)
        return super().wait(until)


def test_run_that_is_interrupted_before_it_starts_starts_nothing() -> None:
    """Every task is skipped, and says why."""
    with as_in_a_new_program():
        outcome, backend = play_on(InterruptedBackend(opening=(signal.SIGINT,)), 3)
    assert (backend.started, backend.is_closed) == ([], True)
    assert {record.why for record in outcome.records} == {"the run was interrupted"}
    assert type(outcome.broken) is KeyboardInterrupt


def test_second_ctrl_c_does_not_wait_for_attempts_to_end() -> None:
    """They were to end, and whether they had begun is not known; what lives still is the backend's to kill."""
    backend = InterruptedBackend(waiting=(signal.SIGTERM, signal.SIGINT))
    with as_in_a_new_program():
        outcome, _ = play_on(backend, 3)
    assert (backend.started, backend.cancelled, backend.is_closed) == ([1, 2], [1, 2], True)
    assert statuses(outcome) == [TaskStatus.SKIPPED] * 3
    twice = "the run was interrupted twice: whether it had begun is not known"
    assert [record.why for record in outcome.records] == [twice, twice, "the run was interrupted"]
    assert type(outcome.broken) is RunTerminated
