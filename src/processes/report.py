"""What happened, task by task: plain data that outlives the run."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import pickle
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from processes.error_data import ErrorData
from processes.events import TaskStatus
from processes.exceptions import RemoteTaskError, TaskFailedError
from processes.record import MAKERS, AttemptRecord, Usage, elapsed, exception_of, result_of
from processes.redaction import redaction_of
from processes.spec import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from processes.comparison import ReportComparison
    from processes.record import TaskRecord
    from processes.redaction import Redaction
    from processes.run_info import RunInfo


class TaskResult:
    """
    How a task ended, as `Task.run` and `process.runner.results` tell it.

    Attributes:
        status: SUCCESS, ERRORED or SKIPPED; PENDING before a run.
        result: What it returned; None where it did not.
        exception: What it raised; None where it did not.
        error_data: The same as plain data.
        elapsed_seconds: Seconds of all attempts together; waiting is not counted.
        attempts: Attempts made; 0 where none was.
    """

    __module__ = "processes"

    def __init__(
        self,
        status: TaskStatus,
        result: Any,  # noqa: ANN401  it is the user's
        exception: BaseException | None,
        error_data: ErrorData | None = None,
        elapsed_seconds: float = 0.0,
        attempts: int = 0,
    ) -> None:
        """Plain attributes of the parameters' names."""
        self.status = status
        self.result = result
        self.exception = exception
        self.error_data = error_data
        self.elapsed_seconds = elapsed_seconds
        self.attempts = attempts

    @property
    def worked(self) -> bool:
        """Whether the task succeeded."""
        return self.status == TaskStatus.SUCCESS

    @classmethod
    def pending(cls) -> TaskResult:
        """Not run yet."""
        return cls(TaskStatus.PENDING, None, None)

    @classmethod
    def skipped(cls) -> TaskResult:
        """Never run, since something it needed failed."""
        return cls(TaskStatus.SKIPPED, None, None)

    @classmethod
    def success(cls, result: Any, *, elapsed_seconds: float = 0.0, attempts: int = 0) -> TaskResult:  # noqa: ANN401
        """It returned `result`."""
        return cls(TaskStatus.SUCCESS, result, None, None, elapsed_seconds, attempts)

    @classmethod
    def errored(
        cls,
        exception: BaseException,
        *,
        error_data: ErrorData | None = None,
        elapsed_seconds: float = 0.0,
        attempts: int = 0,
    ) -> TaskResult:
        """Its last attempt failed with `exception`."""
        return cls(TaskStatus.ERRORED, None, exception, error_data, elapsed_seconds, attempts)


class LazyTaskResult(TaskResult):
    """A TaskResult over a record; the result is fetched when it is read."""

    def __init__(self, record: TaskRecord) -> None:
        """Only what it costs nothing to tell."""
        self._record = record
        self._result: Any = self
        self._exception: BaseException | None = None
        self._is_exception_known = False
        self.status = record.status
        self.error_data = record.error_data
        self.elapsed_seconds = elapsed(record.attempts)
        self.attempts = record.count

    @property
    def exception(self) -> BaseException | None:
        """What it raised."""
        if not self._is_exception_known:
            self.exception = exception_of(self._record)
        return self._exception

    @exception.setter
    def exception(self, error: BaseException | None) -> None:
        self._exception, self._is_exception_known = error, True

    @property
    def result(self) -> Any:  # noqa: ANN401  the user's
        """What it returned."""
        if self._result is self:
            self._result = result_of(self._record)
        return self._result

    @result.setter
    def result(self, value: Any) -> None:  # noqa: ANN401
        self._result = value


class _MadeLater:
    """Room for the record of an entry whose fields are made when they are read, and for the exception."""

    __slots__ = ("_exception", "_record")


@dataclass(frozen=True, slots=True)
class TaskReportEntry(_MadeLater):
    """How one task ended. Sizes are in bytes, times in seconds."""

    __module__ = "processes"

    #: The task's name.
    name: str
    #: Name of its function.
    function: str
    #: The Task's own arguments, without injected results.
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    status: TaskStatus
    #: All attempts together; waiting is not counted.
    elapsed_seconds: float
    #: Attempts made; 0 for a skipped task.
    attempts: int
    #: What it returned; only of a success. A child's result is unpickled when it is first read.
    result: Any = None
    #: Its failure; only of an errored task.
    error: ErrorData | None = None
    #: When its first attempt began and its last ended, with time zone; None for a task that never ran.
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: Process id of the child that made the last attempt; None in sequential and thread mode.
    worker_pid: int | None = None
    #: What the last attempt used.
    usage: Usage | None = None
    #: One record an attempt, in order.
    attempt_log: tuple[AttemptRecord, ...] = ()
    #: Why a skipped task never ran; "" for all others.
    why: str = ""

    @property
    def exception(self) -> BaseException | None:
        """
        What the task raised; None where it did not fail.

        From a child it comes by pickle, with the traceback it had there as a note. Where the exception does not survive
        that, and in an entry that was made by hand or read from JSON, a RemoteTaskError stands for it and names its
        type. Of a pickled entry it is kept where it can be pickled.
        """
        try:
            return _exception_of(self)
        except AttributeError:
            found = self._made_exception()
            _set_exception(self, found)
            return found

    def _made_exception(self) -> BaseException | None:
        if self.error is None:
            return None
        try:
            return exception_of(_record_of(self))
        except AttributeError:
            error = self.error
            return RemoteTaskError(error.exception_type or "Exception", error.exception, error.traceback_str)

    if not TYPE_CHECKING:  # or a checker would take any name for an attribute

        def __getattr__(self, name: str) -> object:
            """Of a field that was not read yet."""
            try:
                record = _record_of(self)
                make, keep = _FIELDS[name]
            except (AttributeError, KeyError):
                msg = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(msg, name=name, obj=self) from None
            value = make(record)
            keep(self, value)
            return value

    def __str__(self) -> str:
        """How the task ended, what it took, its result or its failure."""
        from processes.comms.table import entry_text

        return entry_text(self)

    def __getstate__(self) -> tuple[list[object], bytes | None]:
        """All fields, and the exception if it can be pickled."""
        fields = [getattr(self, each.name) for each in dataclasses.fields(self)]
        try:
            return fields, None if self.exception is None else pickle.dumps(self.exception)
        except Exception:  # noqa: BLE001  foreign code
            return fields, None

    def __setstate__(self, state: tuple[list[object], bytes | None]) -> None:
        fields, exception = state
        for each, value in zip(dataclasses.fields(self), fields, strict=True):
            object.__setattr__(self, each.name, value)
        if exception is not None:
            with contextlib.suppress(Exception):
                _set_exception(self, pickle.loads(exception))


_set_record: Callable[[TaskReportEntry, TaskRecord], None] = _MadeLater.__dict__["_record"].__set__
_exception_of: Callable[[TaskReportEntry], BaseException | None] = _MadeLater.__dict__["_exception"].__get__
_set_exception: Callable[[TaskReportEntry, BaseException | None], None] = _MadeLater.__dict__["_exception"].__set__
_record_of: Callable[[TaskReportEntry], TaskRecord] = _MadeLater.__dict__["_record"].__get__
_set_status: Callable[[TaskReportEntry, TaskStatus], None] = TaskReportEntry.__dict__["status"].__set__


def entry_of(record: TaskRecord) -> TaskReportEntry:
    """An entry that makes its fields of the record when they are read, but its status, which everybody reads."""
    entry = TaskReportEntry.__new__(TaskReportEntry)
    _set_record(entry, record)
    _set_status(entry, record.status)
    return entry


#: How a field is made of the record, and how it is kept, by its name.
_FIELDS: dict[str, tuple[Callable[[TaskRecord], object], Callable[[TaskReportEntry, object], None]]] = {
    name: (make, TaskReportEntry.__dict__[name].__set__) for name, make in MAKERS.items()
}


def _raisable(entry: TaskReportEntry) -> Exception:
    error = entry.exception
    if isinstance(error, Exception):
        note = f"(task '{entry.name}')"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return error
    failed = TaskFailedError(entry.name, type(error).__name__ if error is not None else "an unknown error")
    failed.__cause__ = error
    return failed


@dataclass(frozen=True, slots=True)
class ProcessExecutionReport:
    """What happened in one run."""

    __module__ = "processes"

    #: {task name, lower-case: entry}, in the order in which each task comes after what it waits for.
    entries: dict[str, TaskReportEntry] = field(default_factory=dict)
    #: Name of the Process.
    process_name: str = ""
    #: Troubles of the run's own, mended or not: a replaced worker, a logfile that could not be written.
    warnings: tuple[str, ...] = ()
    #: When, where and how it was run; None for a report that was built by hand. Two reports are equal when the same
    #: happened to the tasks, as in 7.0.4, wherever that was.
    run: RunInfo | None = field(default=None, compare=False)

    @property
    def successes(self) -> dict[str, TaskReportEntry]:
        """Entries of tasks that succeeded."""
        return self._with(TaskStatus.SUCCESS)

    @property
    def errored(self) -> dict[str, TaskReportEntry]:
        """Entries of tasks that failed."""
        return self._with(TaskStatus.ERRORED)

    @property
    def skipped(self) -> dict[str, TaskReportEntry]:
        """Entries of tasks that never ran."""
        return self._with(TaskStatus.SKIPPED)

    @property
    def redaction(self) -> Redaction:
        """What is not to be shown of it: the rule of its Process, or the default one."""
        return redaction_of(True if self.run is None else self.run.redact)

    def _with(self, status: TaskStatus) -> dict[str, TaskReportEntry]:
        return {key: entry for key, entry in self.entries.items() if entry.status is status}

    def to_text(self, *, details: bool = False) -> str:
        """
        The report for a terminal: a line a task, then each failure; `print(report)` shows it without details.

        Args:
            details: Show the whole traceback, the locals and the last log lines of each failure.
        """
        from processes.comms.table import report_text

        return report_text(self, details=details)

    def __str__(self) -> str:
        """As `to_text`."""
        return self.to_text()

    def raise_for_errors(self) -> None:
        """
        Raise what the tasks raised; do nothing where none failed.

        Raises:
            ExceptionGroup: Of each failed task's own exception, with its name and its traceback as notes. A SystemExit
                or KeyboardInterrupt of a task is the cause of a TaskFailedError: it is not to end the caller.
        """
        raised = [_raisable(entry) for entry in self.errored.values()]
        if raised:
            msg = f"{len(raised)} of {len(self.entries)} tasks failed"
            raise ExceptionGroup(msg, raised)

    @classmethod
    def from_results(cls, process: Any, results: dict[str, TaskResult]) -> ProcessExecutionReport:  # noqa: ANN401  a Process
        """A report of results by task name, for the tasks of `process` in their order."""
        entries = {}
        for task in process.tasks:
            outcome = results[task.name]
            entries[task.name] = TaskReportEntry(
                task.name,
                name_of(task.func),
                task.args,
                task.kwargs,
                outcome.status,
                outcome.elapsed_seconds,
                outcome.attempts,
                outcome.result if outcome.worked else None,
                outcome.error_data if outcome.status is TaskStatus.ERRORED else None,
            )
        return cls(entries, process.name)

    def to_json(self, *, indent: int | str | None = None, **dumps_kwargs: Any) -> str:  # noqa: ANN401  json.dumps' own
        """
        The report as JSON text that every reader takes, whatever the tasks returned.

        Args:
            indent: As in `json.dumps`.
            dumps_kwargs: Further options of `json.dumps`; `default` is ignored, since every value is made plain before.

        Returns:
            An object with `entries` (nine keys each), `process_name`, `metrics` (times, usage and attempts by task),
            `failures` (what is known beyond the nine fields of an error), `run` (its fields, and the warnings) and
            `schema_version`, now 1. Within one schema version keys may be added beside `entries`; none is removed or
            changes its meaning.

        Results are written whole. What JSON has no type for comes as its text; a result that cannot be loaded as the
        reason; a container that holds itself as "[...]"; and keys that would read the same get a number.
        """
        from processes import report_json

        return report_json.write(self, indent=indent, **dumps_kwargs)

    @classmethod
    def from_json(cls, text: str | bytes | bytearray) -> Self:
        """
        A report from what `to_json` wrote, also that of 7.0.4 or of a later version with the same `schema_version`.

        It writes the same text again, with the same options. Arguments and results are what JSON can hold of them: a
        tuple is a list, an object its text.

        Raises:
            ValueError: It is no such text; the error says what is wrong, and where.
            TypeError: It is no text.
        """
        from processes import report_json

        return cls(*report_json.read(text))

    def merge(self, *others: ProcessExecutionReport, keep: str | None = None) -> Self:
        """
        One report of all: parts of a batch that ran apart, or a batch and a second run of what had failed.

        Args:
            others: Reports of other runs.
            keep: For a task that several reports have: "first" or "last" to keep its entry in the first or the last of
                them, this report being the first; None to refuse.

        Returns:
            A new report: entries in their order, a task of several reports in its first place; all warnings; the first
            name. Its `run` goes from the first start to the last end, with the seconds of all together, and otherwise
            has what all runs agree on.

        Raises:
            ValueError: Reports have tasks of the same name, which it lists, and `keep` does not say which to keep.
            TypeError: One is no report.
        """
        from processes import merging

        return type(self)(*merging.merged((self, *others), keep))

    def compare(
        self,
        before: ProcessExecutionReport,
        *,
        time_ratio: float = 1.25,
        time_seconds: float = 0.1,
        memory_ratio: float = 1.1,
        memory_bytes: int | str = "8MiB",
    ) -> ReportComparison:
        """
        What changed since an earlier report, task by task.

        A difference is told when it reaches both thresholds, as a ratio and as an amount: 1.0 and 0 tell every one. The
        defaults leave out what repeated runs on one machine commonly differ by: times by some 20 %, and short ones by
        a few hundredths of a second; peaks by what a child had loaded for its tasks before.

        Args:
            before: The earlier report.
            time_ratio: How many times slower, or faster, a task must be.
            time_seconds: How many seconds slower, or faster.
            memory_ratio: How many times as much peak memory, or as little.
            memory_bytes: How many bytes more or less, or a text such as "64MiB".

        Raises:
            TypeError: It is no report, or a threshold is no number.
            ValueError: A ratio is below 1, or an amount below 0.
        """
        from processes import comparison

        return comparison.compare(
            self,
            before,
            time_ratio=time_ratio,
            time_seconds=time_seconds,
            memory_ratio=memory_ratio,
            memory_bytes=memory_bytes,
        )

    def notify(
        self,
        *channels: ReportChannel,
        only_errors: bool = False,
        tasks: Iterable[str] | None = None,
        show_warnings: bool = True,
    ) -> tuple[Delivery, ...]:
        """
        Send the report through each channel, in order. One that fails stops neither the others nor the program.

        A failure is logged each time, as an error of the logger `processes`; when all channels have been called, a
        UserWarning tells each to who called this.

        Args:
            channels: Where to.
            only_errors: Send nothing, and call no channel, when no task failed; else each channel sends failures only.
            tasks: Send the report of these tasks alone, and look for failures among them; None means all. Names are
                compared as everywhere, and a single string is one name.
            show_warnings: Whether to warn.

        Returns:
            How it went, channel by channel; empty when there was nothing to send.

        Raises:
            ValueError: The report has no task of a name in `tasks`. No channel was called.
            TypeError: Something in `tasks` is no name. No channel was called.
        """
        from processes.comms.deliver import deliver

        return deliver(self, channels, only_errors=only_errors, tasks=tasks, show_warnings=show_warnings)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one report on one channel."""

    __module__ = "processes"

    #: Name of the channel's class.
    channel: str
    #: Whether the channel sent it, as far as it can know.
    delivered: bool
    #: What the channel raised; None when it was delivered.
    error: Exception | None
    #: How long it took, in seconds.
    seconds: float


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report that is sent tells of each failure."""

    __module__ = "processes"

    #: The traceback's text.
    show_traceback: bool = True
    #: The locals of the chosen frame, and where it was.
    show_traced_vars: bool = True


class ReportChannel(abc.ABC):
    """Where a report can be sent; derive from it for a channel of your own."""

    __module__ = "processes"

    @abc.abstractmethod
    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        """
        Send the report, only its failures with `errors_only`.

        Raises:
            Exception: Whatever went wrong: `ProcessExecutionReport.notify` catches and tells it.
        """
