"""
One vocabulary between the backends, the runner and the scheduler: what happened, and what to do.

Pure. Events are in the past tense and come from a backend; commands are imperative and come from the scheduler. What
an event carries for the report (values, failures, measures) passes the scheduler unseen.

Nobody changes one, but they are not frozen: a frozen dataclass takes five times as long to make (0.9 us). What happens
to thousands of short tasks in a second, to succeed, comes for many of them at once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.failure import Failure
    from processes.spec import Injection
    from processes.usage import Measure, Packed


class TaskStatus(enum.Enum):
    """How a task stands."""

    __module__ = "processes"

    PENDING = "pending"
    SUCCESS = "success"
    ERRORED = "errored"
    SKIPPED = "skipped"


# ---- what happened ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class AttemptStarted:
    """An attempt has begun to run. A backend may leave it out where the end follows at once."""

    attempt_id: int
    at: float
    worker_pid: int | None = None


@dataclass(slots=True)
class AttemptsSucceeded:
    """Attempts returned, in this order; each has a value, the backend's handle of its result, and a measure."""

    attempt_ids: Sequence[int]
    values: Sequence[object]
    measures: Sequence[Measure | Packed]


@dataclass(slots=True)
class AttemptFailed:
    """
    An attempt ended without a result.

    `retryable` tells whether the task's `retry_on` covers the cause. `error` is the exception itself where it lives in
    this process: raised here, or made here for a time-out, a limit or a death.
    """

    attempt_id: int
    failure: Failure
    retryable: bool
    measure: Measure
    error: BaseException | None = None
    #: The backend's handle of the exception, where it was raised in another process and survives the way here.
    handle: object = None
    #: False where the attempt could not even begin: it does not count.
    was_made: bool = True


@dataclass(slots=True)
class AttemptReturned:
    """An attempt was not made, through no fault of its task: it is to be placed again and does not count."""

    attempt_id: int


@dataclass(slots=True)
class SlotsChanged:
    """The backend takes another number of attempts at a time."""

    slots: int


@dataclass(slots=True)
class TimePassed:
    """Nothing happened but the time that the scheduler waited for."""


@dataclass(slots=True)
class RunBroken:
    """The backend cannot go on: what runs is lost, nothing more can start."""

    error: BaseException


@dataclass(slots=True)
class RunInterrupted:
    """The user pressed Ctrl-C, or the program is told to end: what runs is to end, nothing more starts."""


@dataclass(slots=True)
class RecordsLogged:
    """A task logged something. Not for the scheduler."""

    attempt_id: int
    #: Packed, see `logs`.
    records: list[bytes]


@dataclass(slots=True)
class TroubleSeen:
    """Something of the run's own went wrong and was mended. Not for the scheduler."""

    text: str


#: What the scheduler handles.
SchedulerEvent = (
    AttemptStarted
    | AttemptsSucceeded
    | AttemptFailed
    | AttemptReturned
    | SlotsChanged
    | TimePassed
    | RunBroken
    | RunInterrupted
)

#: What a backend reports.
BackendEvent = (
    AttemptStarted | AttemptsSucceeded | AttemptFailed | AttemptReturned | RunBroken | RecordsLogged | TroubleSeen
)


# ---- what to do ------------------------------------------------------------------------------------------------------


class SkipReason(enum.Enum):
    """Why a task never ran."""

    DEPENDENCY = "dependency"
    DEADLINE = "deadline"
    FAIL_FAST = "fail_fast"
    INTERRUPTED = "interrupted"
    BROKEN = "broken"


@dataclass(slots=True)
class StartAttempt:
    """Place an attempt of a task."""

    attempt_id: int
    #: Position of the task in the run.
    task: int
    #: 1 for a task's first attempt.
    number: int
    #: The attempt of the only dependency that has not succeeded yet, or 0. This one may run right behind it, in the
    #: same place, if it returns; if that does not come about, whatever the reason, this one is returned unmade.
    follows: int = 0
    #: How each injected result enters the call, and the backend's own handle of it: the runner knows them. None stands
    #: for what the attempt returns that this one follows.
    inputs: tuple[tuple[Injection, object], ...] = ()


@dataclass(slots=True)
class CancelAttempt:
    """The run's deadline has passed, or it is interrupted: end this attempt; its end is still reported."""

    attempt_id: int


@dataclass(slots=True)
class RecallAttempts:
    """A task failed and nothing is to start any more: what has not begun comes back."""


@dataclass(slots=True)
class RetryTask:
    """Attempt `number` failed and another follows after `delay` seconds."""

    task: int
    number: int
    delay: float


@dataclass(slots=True)
class FinishTasks:
    """Tasks have succeeded."""

    tasks: list[int]


@dataclass(slots=True)
class FailTask:
    """A task has failed for good; attempt `number` was its last."""

    task: int
    number: int


@dataclass(slots=True)
class SkipTask:
    """A task will not run; `culprit` is the task whose failure it is due to, where there is one."""

    task: int
    reason: SkipReason
    culprit: int | None = None


@dataclass(slots=True)
class ReleaseValue:
    """Nobody needs the task's result any more."""

    task: int


Command = StartAttempt | CancelAttempt | RecallAttempts | RetryTask | FinishTasks | FailTask | SkipTask | ReleaseValue
