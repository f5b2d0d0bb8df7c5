"""The loop between backend and scheduler, on scripted events."""

from processes import runner
from processes.attempt import Call
from processes.events import (
    AttemptReturned,
    AttemptSucceeded,
    BackendEvent,
    RunBroken,
    TaskStatus,
    TroubleSeen,
)
from processes.exceptions import WorkerStartError
from processes.runner import Outcome, Plan
from processes.spec import TaskSpec
from processes.usage import Measure
from support.scripted import ScriptedBackend

MEASURE = Measure(1.0, 2.0)


def play(tasks: int, *batches: list[BackendEvent]) -> tuple[Outcome, ScriptedBackend]:
    """Run independent tasks on a script."""
    backend = ScriptedBackend(*batches)
    specs = [TaskSpec(f"t{number}") for number in range(tasks)]
    calls = [Call(spec.name, print, (), {}) for spec in specs]
    return runner.run(Plan(specs, calls, [None] * tasks, lambda _: []), backend), backend


def statuses(outcome: Outcome) -> list[TaskStatus]:
    """How each task ended."""
    return [record.status for record in outcome.records]


def test_broken_run_ignores_what_its_attempts_still_do() -> None:
    """Children that die because the run broke off return attempts that nobody waits for; warnings still count."""
    error = WorkerStartError("the initializer failed")
    last: list[BackendEvent] = [
        RunBroken(error),
        AttemptReturned(1),
        AttemptSucceeded(2, 0, MEASURE),
        TroubleSeen("late"),
    ]
    outcome, backend = play(3, last)
    assert statuses(outcome) == [TaskStatus.SKIPPED] * 3
    assert (outcome.broken, outcome.warnings, backend.is_closed) == (error, ["late"], True)


def test_returned_attempt_is_placed_again_and_does_not_count() -> None:
    """It was not made, through no fault of its task."""
    outcome, backend = play(1, [AttemptReturned(1)], [AttemptSucceeded(2, "value", MEASURE)])
    assert backend.started == [1, 2]
    assert statuses(outcome) == [TaskStatus.SUCCESS]
    assert [measure for measure, _ in outcome.records[0].attempts] == [MEASURE]
