"""What changed between two reports. Pure, and runs in the parent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processes.events import TaskStatus
from processes.graph import key_of
from processes.report import ProcessExecutionReport
from processes.spec import require
from processes.usage import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from processes.report import TaskReportEntry
    from processes.run_info import RunInfo

_SUCCEEDED, _FAILED, _SKIPPED = TaskStatus.SUCCESS, TaskStatus.ERRORED, TaskStatus.SKIPPED

#: What two runs must share for their times and sizes to be comparable: fields of RunInfo.
_CONDITIONS = ("mode", "max_workers", "start_method", "python", "platform", "host", "version")

#: How a peak of memory can have been found and mean the same: that of the child alone.
_OF_THE_CHILD = frozenset({"VmHWM", "wait4"})


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A figure in two reports: seconds or bytes."""

    __module__ = "processes"

    #: Whose it is: a task's name, or the process's where it is the run's.
    name: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """How much was added; below 0, how much less it is."""
        return self.after - self.before

    @property
    def ratio(self) -> float:
        """So many times what it was; infinite where that was nothing."""
        return self.after / self.before if self.before else math.inf


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """
    What changed from an earlier report to a later one; `str()` tells it in lines.

    Times and peaks of memory are compared where a task succeeded both times, and told where they differ by as much as
    `ProcessExecutionReport.compare` was asked for; the largest difference is first.
    """

    __module__ = "processes"

    #: Failed now, and did not before; new tasks included.
    newly_failed: tuple[str, ...] = ()
    #: Failed now as before.
    still_failed: tuple[str, ...] = ()
    #: Skipped now, and was not before; new tasks included.
    newly_skipped: tuple[str, ...] = ()
    #: Succeeded now; failed or was skipped before.
    fixed: tuple[str, ...] = ()
    #: Was not in the earlier report.
    new: tuple[str, ...] = ()
    #: Is not in the later report.
    gone: tuple[str, ...] = ()
    #: Seconds, of all attempts together.
    slower: tuple[FigureChange, ...] = ()
    faster: tuple[FigureChange, ...] = ()
    #: Peak memory in bytes.
    bigger: tuple[FigureChange, ...] = ()
    smaller: tuple[FigureChange, ...] = ()
    #: Seconds of the run as a whole, whatever the difference; None where a report does not tell.
    run: FigureChange | None = None
    #: In what the runs differ, such as "python: 3.11.7, now 3.12.1": times may differ for that reason alone.
    conditions: tuple[str, ...] = ()

    @property
    def is_worse(self) -> bool:
        """Whether a task newly failed or was newly skipped, or is slower or bigger."""
        return bool(self.newly_failed or self.newly_skipped or self.slower or self.bigger)

    def __str__(self) -> str:
        """A line for each kind of change, and one for each figure."""
        lines = [f"the runs differ in {text}" for text in self.conditions]
        if self.run is not None:
            lines.append(f"the run took {_change(self.run, _seconds)}")
        for label in ("newly_failed", "still_failed", "newly_skipped", "fixed", "new", "gone"):
            names = getattr(self, label)
            if names:
                lines.append(f"{label.replace('_', ' ')}: {', '.join(names)}")
        for label, shown in (("slower", _seconds), ("faster", _seconds), ("bigger", _size), ("smaller", _size)):
            lines += [f"{label}: {change.name} {_change(change, shown)}" for change in getattr(self, label)]
        return "\n".join(lines) or "nothing changed"


def compare(
    after: ProcessExecutionReport,
    before: ProcessExecutionReport,
    *,
    time_ratio: float,
    time_seconds: float,
    memory_ratio: float,
    memory_bytes: int | str,
) -> ReportComparison:
    """As `ProcessExecutionReport.compare` says."""
    require("before", before, ProcessExecutionReport)
    times = _Threshold(_at_least("time_ratio", time_ratio, 1), _at_least("time_seconds", time_seconds, 0))
    sizes = _Threshold(_at_least("memory_ratio", memory_ratio, 1), 0 if memory_bytes == 0 else parse_size(memory_bytes))
    old = {key_of(name): entry for name, entry in before.entries.items()}
    new = {key_of(name): entry for name, entry in after.entries.items()}
    stood = [(entry.name, old[key].status if key in old else None, entry.status) for key, entry in new.items()]
    both = [(old[key], entry) for key, entry in new.items() if key in old and _succeeded(old[key], entry)]
    seconds = [FigureChange(now.name, was.elapsed_seconds, now.elapsed_seconds) for was, now in both]
    peaks = [change for was, now in both if (change := _peaks(was, now)) is not None]
    return ReportComparison(
        newly_failed=tuple(name for name, was, now in stood if now is _FAILED and was is not _FAILED),
        still_failed=tuple(name for name, was, now in stood if now is _FAILED and was is _FAILED),
        newly_skipped=tuple(name for name, was, now in stood if now is _SKIPPED and was is not _SKIPPED),
        fixed=tuple(name for name, was, now in stood if now is _SUCCEEDED and was in {_FAILED, _SKIPPED}),
        new=tuple(entry.name for key, entry in new.items() if key not in old),
        gone=tuple(entry.name for key, entry in old.items() if key not in new),
        slower=times.more(seconds),
        faster=times.less(seconds),
        bigger=sizes.more(peaks),
        smaller=sizes.less(peaks),
        run=_of_runs(before, after),
        conditions=_differences(before.run, after.run),
    )


@dataclass(frozen=True, slots=True)
class _Threshold:
    """What a difference must reach, both ways, to be told."""

    ratio: float
    amount: float

    def more(self, changes: Iterable[FigureChange]) -> tuple[FigureChange, ...]:
        found = [change for change in changes if self._reached(change.after, change.before)]
        return tuple(sorted(found, key=lambda change: -change.difference))

    def less(self, changes: Iterable[FigureChange]) -> tuple[FigureChange, ...]:
        found = [change for change in changes if self._reached(change.before, change.after)]
        return tuple(sorted(found, key=lambda change: change.difference))

    def _reached(self, large: float, small: float) -> bool:
        # The first, since both thresholds may be as low as they go.
        return large > small and (small == 0 or large / small >= self.ratio) and large - small >= self.amount


def _succeeded(was: TaskReportEntry, now: TaskReportEntry) -> bool:
    return was.status is _SUCCEEDED and now.status is _SUCCEEDED


def _peaks(was: TaskReportEntry, now: TaskReportEntry) -> FigureChange | None:
    """Peaks of memory, where both are known and were found in a comparable way."""
    if was.usage is None or now.usage is None or was.usage.peak_memory is None or now.usage.peak_memory is None:
        return None
    sources = {was.usage.peak_source, now.usage.peak_source}
    if len(sources) > 1 and not sources <= _OF_THE_CHILD:
        return None  # One counts the child's own children, the other does not.
    return FigureChange(now.name, was.usage.peak_memory, now.usage.peak_memory)


def _of_runs(before: ProcessExecutionReport, after: ProcessExecutionReport) -> FigureChange | None:
    if before.run is None or after.run is None or before.run.seconds is None or after.run.seconds is None:
        return None
    return FigureChange(after.process_name, before.run.seconds, after.run.seconds)


def _differences(before: RunInfo | None, after: RunInfo | None) -> tuple[str, ...]:
    """Of what is known of both runs."""
    if before is None or after is None:
        return ()
    pairs = [(name, getattr(before, name), getattr(after, name)) for name in _CONDITIONS]
    return tuple(f"{name}: {was}, now {now}" for name, was, now in pairs if was and now and was != now)


def _at_least(name: str, value: float, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not least <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least {least}, got {value!r}")
    return value


# ---- in words --------------------------------------------------------------------------------------------------------


def _change(change: FigureChange, shown: Callable[[float], str]) -> str:
    sign = "-" if change.difference < 0 else "+"
    ratio = "" if math.isinf(change.ratio) else f", x{change.ratio:.2f}"
    return f"{shown(change.after)}, before {shown(change.before)} ({sign}{shown(abs(change.difference))}{ratio})"


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 10 else f"{value:.1f} s"


def _size(value: float) -> str:
    return f"{value / 2**20:.1f} MiB"
