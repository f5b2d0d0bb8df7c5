"""What changed between two reports."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from processes.comparison import FigureChange, ReportComparison
from processes.events import TaskStatus
from processes.record import Usage
from processes.report import ProcessExecutionReport, TaskReportEntry
from processes.run_info import RunInfo
from support import reports

MIB = 2**20

#: A task that succeeded, failed, was skipped, or is not there.
ONES = {"s": reports.succeeded, "f": reports.failed, "-": reports.skipped}


def stood(**tasks: str) -> ProcessExecutionReport:
    """A report of tasks by the letter of their status."""
    return ProcessExecutionReport({name: ONES[letter](name) for name, letter in tasks.items()})


def took(name: str = "a", **changes: Any) -> ProcessExecutionReport:  # noqa: ANN401  any field of the entry
    """A report of one task that succeeded."""
    return ProcessExecutionReport({name: reports.succeeded(name, **changes)})


def peak(size: int | None, source: str | None = "VmHWM") -> ProcessExecutionReport:
    """A report of one task that used so much memory."""
    return took(usage=Usage(size, peak_source=source))


# ---- how tasks stand -------------------------------------------------------------------------------------------------


def test_equal_reports_have_no_differences() -> None:
    """But what still fails."""
    assert reports.report().compare(reports.report()) == ReportComparison(still_failed=("load",))
    assert stood(a="s").compare(stood(a="s")) == ReportComparison()
    assert not stood(a="s").compare(stood(a="s")).is_worse


def test_statuses_are_compared_task_by_task() -> None:
    """Each change by its name; tasks that came or went, too."""
    before = stood(good="s", breaks="s", worked="f", ran="-", stays="f", lost="s", halts="s", falls="-", went="s")
    after = stood(good="s", breaks="f", worked="s", ran="s", stays="f", lost="-", halts="-", falls="f", came="s")
    assert after.compare(before) == ReportComparison(
        newly_failed=("breaks", "falls"),
        still_failed=("stays",),
        newly_skipped=("lost", "halts"),
        fixed=("worked", "ran"),
        new=("came",),
        gone=("went",),
    )


def test_new_task_that_failed_is_both() -> None:
    """Whoever asks for failures only must learn of it."""
    found = stood(a="f", b="-").compare(ProcessExecutionReport())
    assert (found.new, found.newly_failed, found.newly_skipped) == (("a", "b"), ("a",), ("b",))


def test_names_are_compared_in_any_case() -> None:
    """As everywhere; the later report's spelling is shown."""
    assert stood(LOAD="f").compare(stood(load="f")).still_failed == ("LOAD",)


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        (1.0, 1.25, True),
        (1.0, 1.24, False),  # the ratio
        (0.5, 0.625, True),
        (0.25, 0.34, False),  # the amount
        (0.0, 0.125, True),
        (0.0, 0.05, False),
        (1.0, math.inf, True),
        (math.nan, 9.0, False),
    ],
)
def test_time_is_told_when_ratio_and_amount_are_reached(before: float, after: float, is_told: bool) -> None:
    """Both ways, by the defaults: a quarter, and a tenth of a second."""
    slow, fast = took(elapsed_seconds=after), took(elapsed_seconds=before)
    slower, faster = slow.compare(fast), fast.compare(slow)
    assert slower.slower == ((FigureChange("a", before, after),) if is_told else ())
    assert faster.faster == ((FigureChange("a", after, before),) if is_told else ())
    assert (slower.faster, faster.slower) == ((), ())
    assert slower.is_worse == is_told
    assert not faster.is_worse


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [(100, 110, True), (100, 109, False), (50, 58, True), (50, 57, False)],
)
def test_memory_is_told_when_ratio_and_amount_are_reached(before: int, after: int, is_told: bool) -> None:
    """Both ways, by the defaults: a tenth, and 8 MiB."""
    large, small = peak(after * MIB), peak(before * MIB)
    change, back = FigureChange("a", before * MIB, after * MIB), FigureChange("a", after * MIB, before * MIB)
    assert large.compare(small).bigger == ((change,) if is_told else ())
    assert small.compare(large).smaller == ((back,) if is_told else ())
    assert large.compare(small).is_worse == is_told


def test_thresholds_can_be_set() -> None:
    """As low as they go every difference is told, but nothing that is the same."""
    lowest: dict[str, Any] = {"time_ratio": 1, "time_seconds": 0, "memory_ratio": 1, "memory_bytes": 0}
    before, after = (
        took(elapsed_seconds=1.0, usage=Usage(100)),
        took(elapsed_seconds=1.001, usage=Usage(101)),
    )
    found = after.compare(before, **lowest)
    assert (found.slower, found.bigger) == ((FigureChange("a", 1.0, 1.001),), (FigureChange("a", 100, 101),))
    assert after.compare(after, **lowest) == ReportComparison()
    assert took(elapsed_seconds=9.0).compare(took(elapsed_seconds=1.0), time_ratio=9.5).slower == ()
    assert took(elapsed_seconds=9.0).compare(took(elapsed_seconds=1.0), time_seconds=8.5).slower == ()
    assert peak(90 * MIB).compare(peak(10 * MIB), memory_bytes="81MiB").bigger == ()
    assert peak(90 * MIB).compare(peak(10 * MIB), memory_ratio=9.5).bigger == ()


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("time_ratio", 0.9, ValueError),
        ("time_ratio", math.nan, ValueError),
        ("time_seconds", -1, ValueError),
        ("time_seconds", math.inf, ValueError),
        ("memory_ratio", "2", TypeError),
        ("time_ratio", True, TypeError),
        ("memory_bytes", "8 parsecs", ValueError),
        ("memory_bytes", -1, ValueError),
        ("memory_bytes", 1.5, TypeError),
    ],
)
def test_threshold_that_is_none_is_refused(option: str, value: object, error: type[Exception]) -> None:
    """Rather than compare by something else."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(error):
        took().compare(took(), **options)


def test_what_is_no_report_is_refused() -> None:
    """A text of one, for example."""
    with pytest.raises(TypeError, match="before must be ProcessExecutionReport"):
        took().compare(took().to_json())  # type: ignore[arg-type]


def test_figures_of_tasks_that_failed_are_not_compared() -> None:
    """How long a task ran until it failed says nothing of how long it takes."""
    long = replace(reports.failed("a"), elapsed_seconds=100.0)
    assert took(elapsed_seconds=1.0).compare(ProcessExecutionReport({"a": long})).faster == ()


@pytest.mark.parametrize(
    ("before", "after", "is_told"),
    [
        (("VmHWM", 10), ("wait4", 90), True),
        (("sampled", 10), ("sampled", 90), True),
        ((None, 10), (None, 90), True),
        (("VmHWM", 10), ("sampled", 90), False),
        ((None, 10), ("VmHWM", 90), False),
        (("VmHWM", None), ("VmHWM", 90), False),
    ],
)
def test_peaks_are_compared_where_they_mean_the_same(
    before: tuple[str | None, int | None], after: tuple[str | None, int], is_told: bool
) -> None:
    """What was sampled counts a child's own children, and VmHWM does not."""
    size = None if before[1] is None else before[1] * MIB
    assert bool(peak(after[1] * MIB, after[0]).compare(peak(size, before[0])).bigger) == is_told


def test_entries_without_usage_are_compared_by_time() -> None:
    """As of a text of 7.0.4."""
    entry = TaskReportEntry("a", "f", (), {}, TaskStatus.SUCCESS, 5.0, 1)
    found = ProcessExecutionReport({"a": entry}).compare(took())
    assert (len(found.slower), found.smaller) == (1, ())


def test_largest_difference_is_first() -> None:
    """Whichever way, and however many times it is."""
    seconds = {"a": (1.0, 2.0), "b": (0.1, 1.0), "c": (10.0, 19.0)}
    before, after = (
        ProcessExecutionReport(
            {name: reports.succeeded(name, elapsed_seconds=pair[place]) for name, pair in seconds.items()}
        )
        for place in (0, 1)
    )
    assert [change.name for change in after.compare(before).slower] == ["c", "a", "b"]
    assert [change.name for change in before.compare(after).faster] == ["c", "a", "b"]


def test_change_tells_difference_and_ratio() -> None:
    """Infinite where there was nothing before."""
    assert (FigureChange("a", 2.0, 5.0).difference, FigureChange("a", 2.0, 5.0).ratio) == (3.0, 2.5)
    assert (FigureChange("a", 0, 5.0).difference, FigureChange("a", 0, 5.0).ratio) == (5.0, math.inf)
    with pytest.raises(FrozenInstanceError):
        FigureChange("a", 0, 1).name = "b"  # type: ignore[misc]


# ---- the runs --------------------------------------------------------------------------------------------------------


def test_runs_are_compared_where_both_are_known() -> None:
    """Their seconds, and what may be why they differ."""
    before = RunInfo(seconds=10.0, mode="processes", python="3.11.7", host="a")
    after = RunInfo(seconds=9.0, mode="processes", python="3.12.1", platform="Linux")
    reports_ = [ProcessExecutionReport({}, "nightly", (), run) for run in (before, after, None)]
    found = reports_[1].compare(reports_[0])
    assert found.run == FigureChange("nightly", 10.0, 9.0)
    assert found.conditions == ("python: 3.11.7, now 3.12.1",)
    assert reports_[1].compare(reports_[2]) == ReportComparison() == reports_[2].compare(reports_[1])


# ---- in words --------------------------------------------------------------------------------------------------------


def test_comparison_reads_as_lines() -> None:
    """For a log: runs, tasks, figures."""
    found = ReportComparison(
        newly_failed=("load", "publish"),
        still_failed=("old",),
        newly_skipped=("last",),
        fixed=("clean",),
        new=("n",),
        gone=("g",),
        slower=(FigureChange("train", 1.2, 12.4), FigureChange("start", 0.0, 0.5)),
        faster=(FigureChange("scan", 4.0, 1.0),),
        bigger=(FigureChange("train", 100 * MIB, 250 * MIB),),
        smaller=(FigureChange("scan", 2 * MIB, 0.5 * MIB),),
        run=FigureChange("nightly", 20.0, 30.0),
        conditions=("python: 3.11.7, now 3.12.1",),
    )
    assert str(found).splitlines() == [
        "the runs differ in python: 3.11.7, now 3.12.1",
        "the run took 30.0 s, before 20.0 s (+10.0 s, x1.50)",
        "newly failed: load, publish",
        "still failed: old",
        "newly skipped: last",
        "fixed: clean",
        "new: n",
        "gone: g",
        "slower: train 12.4 s, before 1.200 s (+11.2 s, x10.33)",
        "slower: start 0.500 s, before 0.000 s (+0.500 s)",
        "faster: scan 1.000 s, before 4.000 s (-3.000 s, x0.25)",
        "bigger: train 250.0 MiB, before 100.0 MiB (+150.0 MiB, x2.50)",
        "smaller: scan 0.5 MiB, before 2.0 MiB (-1.5 MiB, x0.25)",
    ]


def test_comparison_without_a_change_says_so() -> None:
    """Rather than nothing."""
    assert str(ReportComparison()) == "nothing changed"
