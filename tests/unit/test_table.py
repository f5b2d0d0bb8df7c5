"""A report as a person reads it in a terminal."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from processes import ErrorData, ProcessExecutionReport, TaskReportEntry, TaskStatus, Usage
from processes.comms.table import SUCCESSES_MAX, WIDTH

BEGUN = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
ERROR = ErrorData(
    task_name="load",
    function="load",
    exception="no such table: flights",
    traceback_str='Traceback (most recent call last):\n  File "etl.py", line 7, in load\n    db.run(sql)\n'
    "sqlite3.OperationalError: no such table: flights\n",
    traced_vars={"sql": "'insert ...'"},
    traced_vars_location="etl.py:7",
    exception_type="sqlite3.OperationalError",
    downstream_impact=["mail"],
)


def entry(name: str, status: TaskStatus = TaskStatus.SUCCESS, **fields: object) -> TaskReportEntry:
    made = TaskReportEntry(name, "f", (), {}, status, 1.5, 1, started_at=BEGUN, ended_at=BEGUN + timedelta(seconds=2))
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def report(*entries: TaskReportEntry, warnings: tuple[str, ...] = ()) -> ProcessExecutionReport:
    return ProcessExecutionReport({made.name: made for made in entries}, "nightly", warnings)


FAILED = entry("load", TaskStatus.ERRORED, error=ERROR, usage=Usage(3 * 2**20, 0, 0.5, 0.25, "VmHWM"), attempts=3)
SKIPPED = entry(
    "mail", TaskStatus.SKIPPED, elapsed_seconds=0.0, attempts=0, started_at=None, ended_at=None,
    why="it depends on 'load', which failed",
)  # fmt: skip


def test_report_is_a_table_then_each_failure() -> None:
    """4.6: what a person wants after a night's run."""
    assert str(report(entry("extract"), FAILED, SKIPPED, warnings=("the disk was full",))) == (
        "nightly: 3 tasks: 1 success, 1 errored, 1 skipped, in 2.00 s\n"
        "\n"
        "task     status   tries  seconds  CPU s  peak MiB\n"
        "extract  success      1     1.50      -         -\n"
        "load     errored      3     1.50   0.75         3  sqlite3.OperationalError: no…\n"
        "mail     skipped      0        -      -         -  it depends on 'load', which…\n"
        "\n"
        "warnings:\n"
        "- the disk was full\n"
        "\n"
        "load: errored, 1.50 s, 3 attempts, peak 3.0 MiB\n"
        "  sqlite3.OperationalError: no such table: flights\n"
        "  at etl.py:7\n"
        '    File "etl.py", line 7, in load\n'
        "      db.run(sql)\n"
        "  skipped because of it: mail"
    )


def test_report_with_details_has_traceback_and_locals() -> None:
    """The whole of each failure."""
    told = report(FAILED).to_text(details=True)
    assert "  Traceback (most recent call last):\n" in told
    assert "  sqlite3.OperationalError: no such table: flights\n" in told
    assert "  Locals at etl.py:7:\n    sql = 'insert ...'\n" in told


@pytest.mark.parametrize("name", ["short", "x" * 200, "näme\x1b[31mred", "夜" * 100])
def test_lines_fit_a_terminal(name: str) -> None:
    """80 columns whatever a task is called or says; nothing that would act on the terminal."""
    odd = dataclasses.replace(ERROR, exception="y" * 5_000 + "\x1b[31m", downstream_impact=[name] * 100)
    told = str(report(entry(name), entry("b", TaskStatus.ERRORED, error=odd)))
    assert max(map(len, told.splitlines())) <= WIDTH
    assert "\x1b" not in told


def test_many_successes_are_counted_not_listed() -> None:
    """What failed stands there in full, however many tasks there are."""
    entries = [entry(f"t{n}") for n in range(SUCCESSES_MAX + 7)]
    told = str(report(*entries, FAILED))
    assert "... and 7 more that succeeded" in told
    assert "\nload " in told


def test_empty_report_says_so() -> None:
    """It has no table."""
    assert str(ProcessExecutionReport()) == "0 tasks: 0 success"


def test_entry_shows_its_outcome() -> None:
    """4.6: `print(entry)`: the result, the reason, or the failure."""
    assert str(entry("a", result=[1, 2])) == "a: success, 1.50 s\n  returned [1, 2]"
    assert str(SKIPPED) == "mail: skipped\n  it depends on 'load', which failed"
    assert str(FAILED).startswith("load: errored, 1.50 s, 3 attempts, peak 3.0 MiB\n  Traceback")


def test_error_shows_what_is_known() -> None:
    """4.6: `print(entry.error)`."""
    told = str(dataclasses.replace(ERROR, last_log_lines=("INFO - reading",)))
    assert told == (
        f"{ERROR.traceback_str.rstrip()}\n\nLocals at etl.py:7:\n  sql = 'insert ...'\n\n"
        "Logged last:\n  INFO - reading\n\nSkipped because of it: mail"
    )
    assert str(ErrorData(exception="x", exception_type="ValueError")) == "ValueError: x"
