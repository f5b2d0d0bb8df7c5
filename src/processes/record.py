"""
What a run keeps of each task, and how what a report tells is made of it, when it is first read: of most tasks a part is
read, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from processes.events import TaskStatus
from processes.spec import name_of
from processes.usage import Measure, measure_of, usage_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processes.error_data import ErrorData
    from processes.events import AttemptFailed
    from processes.failure import Failure
    from processes.usage import Packed


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt used; None where it is not known."""

    __module__ = "processes"

    #: Highest resident memory of the child while the attempt ran, in bytes.
    peak_memory: int | None = None
    #: Resident memory at the attempt's end less that at its start, in bytes.
    memory_growth: int | None = None
    #: CPU time in user mode, seconds; children that the task waited for are included.
    cpu_user: float | None = None
    #: CPU time in the kernel, seconds; as above.
    cpu_system: float | None = None
    #: How the peak was found: "VmHWM" (the child, exact to 1 MiB), "wait4" (the same figure, of a child that died),
    #: "sampled" (child and descendants, every 20 ms), None where there is none.
    peak_source: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a task."""

    __module__ = "processes"

    #: 1 for the first.
    attempt: int
    #: "success", or the type of the error that ended it.
    outcome: str
    #: How long it ran, in seconds.
    seconds: float
    #: The error's text; "" for a success.
    why: str = ""
    #: Process id of the child that ran it, or None where no child did.
    worker_pid: int | None = None
    usage: Usage | None = None


class RunFacts(NamedTuple):
    """What the records of one run share."""

    #: Add to CLOCK_MONOTONIC for seconds since the epoch.
    clock_offset: float
    #: How to get at the object behind a handle of the backend's.
    fetch: Callable[[Any], object]


@dataclass(slots=True)
class TaskRecord:
    """What became of one task so far."""

    #: Name, func, args and kwargs of the task, as they were when the run began.
    call: Any
    run: RunFacts
    status: TaskStatus = field(default=TaskStatus.PENDING, init=False)
    #: Of each attempt that was made two things, one behind the other, or a batch would hold a tuple more for each task:
    #: its measure, of a child's success as it came, and None for a success or the failure.
    made: tuple[Any, ...] = field(default=(), init=False)
    #: The result's handle, of a success whose result is kept.
    handle: Any = field(default=None, init=False)
    #: The last attempt that failed, or was refused.
    last_failure: AttemptFailed | None = field(default=None, init=False)
    #: The exception of a task that failed, or its stand-in.
    error: BaseException | None = field(default=None, init=False)
    #: The backend's handle of the exception that the task raised, where it was in another process.
    exception_handle: Any = field(default=None, init=False)
    error_data: ErrorData | None = field(default=None, init=False)
    #: Why it never ran.
    why: str = field(default="", init=False)

    def add(self, measure: Measure | Packed, failure: Failure | None) -> None:
        """Take in an attempt that was made."""
        self.made += (measure, failure)

    @property
    def attempts(self) -> list[tuple[Measure, Failure | None]]:
        """The attempts that were made: how each went, and None for a success or the failure."""
        return [(measure_of(found), failure) for found, failure in zip(self.made[::2], self.made[1::2], strict=True)]

    @property
    def count(self) -> int:
        """How many attempts were made."""
        return len(self.made) // 2

    def first(self) -> Measure | None:
        """The measure of the first attempt, if one was made."""
        return measure_of(self.made[0]) if self.made else None

    def last(self) -> Measure | None:
        """The measure of the last attempt, if one was made."""
        return measure_of(self.made[-2]) if self.made else None


def elapsed(attempts: Sequence[tuple[Measure, Failure | None]]) -> float:
    """Seconds that attempts took together."""
    total = 0.0
    for measure, _ in attempts:
        total += measure.ended_at - measure.started_at
    return total


def result_of(record: TaskRecord) -> object:
    """What the task returned."""
    succeeded = record.status is TaskStatus.SUCCESS
    return record.run.fetch(record.handle) if succeeded and record.handle is not None else None


def exception_of(record: TaskRecord) -> BaseException | None:
    """
    The exception that the task raised.

    One that was raised in a child is loaded anew, with the traceback it had there as a note; where that cannot be done
    a RemoteTaskError stands for it.
    """
    if record.exception_handle is not None and record.error_data is not None:
        try:
            found = record.run.fetch(record.exception_handle)
            if isinstance(found, BaseException):
                found.add_note(f"In the child:\n{record.error_data.traceback_str}".rstrip())
                return found
        except Exception:  # noqa: BLE001  foreign code: it could be loaded in the child
            return record.error
    return record.error


def _time(record: TaskRecord, instant: float | None) -> datetime | None:
    return None if instant is None else datetime.fromtimestamp(instant + record.run.clock_offset, UTC)


def _started_at(record: TaskRecord) -> datetime | None:
    first = record.first()
    return _time(record, None if first is None else first.started_at)


def _ended_at(record: TaskRecord) -> datetime | None:
    last = record.last()
    return _time(record, None if last is None else last.ended_at)


def _worker_pid(record: TaskRecord) -> int | None:
    last = record.last()
    return None if last is None else last.worker_pid


def _usage(record: TaskRecord) -> Usage | None:
    return _usage_of(record.made[-2]) if record.made else None


def _usage_of(found: Measure | Packed) -> Usage:
    usage = _new(Usage)
    peak_memory, memory_growth, cpu_user, cpu_system, peak_source = usage_in(found)
    _set_peak_memory(usage, peak_memory)
    _set_memory_growth(usage, memory_growth)
    _set_cpu_user(usage, cpu_user)
    _set_cpu_system(usage, cpu_system)
    _set_peak_source(usage, peak_source)
    return usage


# A frozen dataclass takes twice as long to fill its fields: reports of large batches make tens of thousands.
_new = object.__new__
_set_peak_memory, _set_memory_growth, _set_cpu_user, _set_cpu_system, _set_peak_source = [
    Usage.__dict__[each.name].__set__ for each in fields(Usage)
]


def _attempt_log(record: TaskRecord) -> tuple[AttemptRecord, ...]:
    return tuple(
        AttemptRecord(
            number,
            "success" if failure is None else failure.exception_type,
            measure.ended_at - measure.started_at,
            "" if failure is None else failure.exception,
            measure.worker_pid,
            _usage_of(measure),
        )
        for number, (measure, failure) in enumerate(record.attempts, 1)
    )


#: {field of a report's entry: how it is made of a record}
MAKERS: dict[str, Callable[[TaskRecord], object]] = {
    "name": lambda record: record.call.name,
    "function": lambda record: name_of(record.call.func),
    "args": lambda record: record.call.args,
    "kwargs": lambda record: record.call.kwargs,
    "status": lambda record: record.status,
    "elapsed_seconds": lambda record: elapsed(record.attempts),
    "attempts": lambda record: record.count,
    "result": result_of,
    "error": lambda record: record.error_data,
    "started_at": _started_at,
    "ended_at": _ended_at,
    "worker_pid": _worker_pid,
    "usage": _usage,
    "attempt_log": _attempt_log,
    "why": lambda record: record.why,
}
