"""Reports as a run leaves them, to be rendered."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from processes.error_data import ErrorData
from processes.events import TaskStatus
from processes.failure import Failure
from processes.record import AttemptRecord, RunFacts, TaskRecord, Usage
from processes.report import ProcessExecutionReport, TaskReportEntry
from processes.usage import Measure

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

#: When reports are rendered: in another time zone, so that a time shown in the wrong one is seen.
GENERATED = datetime(2026, 1, 2, 5, 0, tzinfo=timezone(timedelta(hours=1), "CET"))

TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "/srv/etl/load.py", line 44, in load_table\n'
    "    raise ValueError(table)\n"
    "ValueError: no table 'flights'\n"
)


def succeeded(name: str = "extract", **changes: Any) -> TaskReportEntry:  # noqa: ANN401  any field
    """A success, with everything known."""
    made = TaskReportEntry(name, "extract_table", (), {}, TaskStatus.SUCCESS, 1.25, 1, {"private": "result"})
    ended = STARTED + timedelta(seconds=1.25)
    known: dict[str, Any] = {"started_at": STARTED, "ended_at": ended, "usage": Usage(64 * 2**20)}
    return replace(made, **known | changes)


def recorded(
    call: object,
    fetch: Callable[[Any], object],
    attempts: Sequence[tuple[Measure, Failure | None]] = (),
    offset: float = 0.0,
    **changes: object,
) -> TaskRecord:
    """What a run keeps of a task; `fetch` makes the object behind a handle."""
    record = TaskRecord(call, RunFacts(offset, fetch))
    for measure, failure in attempts:
        record.add(measure, failure)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def error(**changes: Any) -> ErrorData:  # noqa: ANN401  any field
    """What is known of a failure."""
    made = ErrorData("load", "load_table", downstream_impact=["publish", "report"])
    known: dict[str, Any] = {
        "exception": "no table 'flights'",
        "exception_type": "ValueError",
        "traceback_str": TRACEBACK,
        "traced_vars": {"table": "'flights'", "tries": "3"},
        "traced_vars_location": "/srv/etl/load.py:44",
    }
    return replace(made, **known | changes)


def failed(name: str = "load", **changes: Any) -> TaskReportEntry:  # noqa: ANN401  any field
    """A task that failed twice."""
    made = TaskReportEntry(
        name, "load_table", ("flights",), {"year": 2026}, TaskStatus.ERRORED, 192.0, 2, None, error()
    )
    log = (
        AttemptRecord(1, "ConnectionError", 92.0, "refused"),
        AttemptRecord(2, "ValueError", 100.0, "no table 'flights'"),
    )
    known: dict[str, Any] = {
        "started_at": STARTED + timedelta(seconds=2),
        "ended_at": STARTED + timedelta(seconds=200),
        "usage": Usage(3 * 2**30 // 2),
        "attempt_log": log,
    }
    return replace(made, **known | changes)


def skipped(name: str = "publish", **changes: Any) -> TaskReportEntry:  # noqa: ANN401  any field
    """A task that never ran."""
    made = TaskReportEntry(
        name, "publish", (), {}, TaskStatus.SKIPPED, 0.0, 0, why="it depends on 'load', which failed"
    )
    return replace(made, **changes)


def report(*entries: TaskReportEntry, name: str = "nightly", warnings: tuple[str, ...] = ()) -> ProcessExecutionReport:
    """A report of these; of one of each where none is given."""
    told = entries or (succeeded(), failed(), skipped(), skipped("report"))
    return ProcessExecutionReport({entry.name: entry for entry in told}, name, warnings)


class Unprintable:
    """Its repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("<no repr>")


#: Names and values made to break a page, a line or a reader: (what is typed, what is shown).
HOSTILE = [
    ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("\"' onmouseover='x", "\"' onmouseover='x"),
    ("</td></details><b>", "</td></details><b>"),
    ("{{name}} {{{body}}} {{lang_colon}} {count} {location}", "{{name}} {{{body}}} {{lang_colon}} {count} {location}"),
    ("$x ${name} %s %(x)s {0} \\1", "$x ${name} %s %(x)s {0} \\1"),
    ("&amp; &lt;", "&amp; &lt;"),
    ("nul \x00 bell \x07 escape \x1b[31m", "nul \\x00 bell \\x07 escape \\x1b[31m"),
    ("right \u202e left \u2066", "right \\u202e left \\u2066"),
    ("lone \ud800 \udcff", "lone \\ud800 \\udcff"),
    (
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    ),
    ("emoji \U0001f469\u200d\U0001f4bb", "emoji \U0001f469\u200d\U0001f4bb"),
    ("-->]]><!--", "-->]]><!--"),
]
