"""A report as a person reads it in a terminal: a line a task, then each failure. Pure; for the parent."""

from __future__ import annotations

import textwrap
from itertools import islice
from typing import TYPE_CHECKING

from processes.comms import outline
from processes.events import TaskStatus
from processes.failure import bounded_repr
from processes.redaction import DEFAULT as DEFAULT_REDACTION
from processes.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from processes.report import ProcessExecutionReport, TaskReportEntry

#: Columns.
WIDTH = 80

#: Lines of tasks that succeeded; those that did not are all there.
SUCCESSES_MAX = 200

#: Columns of a name; a longer one is cut in the middle, since names often differ in their ends.
_NAME_MAX = 28

#: Lines of a traceback in a failure without details: its last frames, and the exception.
_TRACEBACK_LINES = 6

#: Of the last lines that a task logged before it was killed or crashed.
_LOG_LINES = 3

_WORDS = outline.words_of("en")


def report_text(report: ProcessExecutionReport, *, details: bool) -> str:
    """
    The report in lines of WIDTH columns: counts, a table of tasks, what each failure was.

    With `details` failures have their whole traceback and locals; lines of tracebacks and values are as long as they
    are then.
    """
    blocks = [_headline(report), _table(report), *_warnings(report)]
    blocks += [entry_text(entry, details=details, redaction=report.redaction) for entry in report.errored.values()]
    return "\n\n".join(filter(None, blocks))


def entry_text(entry: TaskReportEntry, *, details: bool = True, redaction: Redaction = DEFAULT_REDACTION) -> str:
    """One task: how it ended, what it took, and its failure."""
    facts = [_outcome(entry)]
    if entry.attempts:
        facts.append(f"{_seconds(entry)} s")
    if entry.attempts > 1:
        facts.append(f"{entry.attempts} attempts")
    if entry.usage is not None and entry.usage.peak_memory is not None:
        facts.append(f"peak {outline.memory(entry.usage.peak_memory, _WORDS)}")
    head = f"{outline.in_line(entry.name)}: {', '.join(facts)}"
    if entry.error is None:
        note = entry.why or (
            f"returned {outline.in_line(redaction.text(bounded_repr(entry.result)))}" if details else ""
        )
        return "\n".join(filter(None, [_filled(head), _filled(note, "  ") if note else ""]))
    lines = outline.clean(str(entry.error)).splitlines()
    if not details:
        lines = _short(entry, lines)
    return "\n".join([_filled(head), *(f"  {line}".rstrip() for line in lines)])


def _short(entry: TaskReportEntry, lines: Sequence[str]) -> list[str]:
    """What it was and where; the last frames of its traceback."""
    error = entry.error
    assert error is not None  # noqa: S101  asked for a failure only
    what = outline.exception_of(error, _WORDS)
    where = error.stuck_at or error.traced_vars_location
    shown = textwrap.wrap(outline.in_line(what, 600), WIDTH - 2, break_on_hyphens=False)
    trace = outline.clean(error.traceback_str).rstrip().splitlines()
    # The line that says what it was stands above.
    frames = [line[: WIDTH - 4] for line in trace if line.startswith("  ")][-_TRACEBACK_LINES:]
    told = [*shown, *([f"at {outline.in_line(where)}"] if where else []), *frames]
    told += [f"logged: {outline.in_line(line, WIDTH - 10)}" for line in error.last_log_lines[-_LOG_LINES:]]
    if error.downstream_impact:
        skipped = f"skipped because of it: {outline.listed(error.downstream_impact, _WORDS)}"
        told += textwrap.wrap(skipped, WIDTH - 2, break_on_hyphens=False)
    return told or list(lines)


def _headline(report: ProcessExecutionReport) -> str:
    counts = dict.fromkeys((TaskStatus.SUCCESS, TaskStatus.ERRORED, TaskStatus.SKIPPED), 0)
    for entry in report.entries.values():
        counts[entry.status] = counts.get(entry.status, 0) + 1
    told = [f"{number} {status.value}" for status, number in counts.items() if number or status is TaskStatus.SUCCESS]
    name = outline.in_line(outline.name_of(report))
    duration = _duration(report)
    return _filled(f"{name + ': ' if name else ''}{len(report.entries)} tasks: {', '.join(told)}{duration}")


def _duration(report: ProcessExecutionReport) -> str:
    began = [entry.started_at for entry in report.entries.values() if entry.started_at is not None]
    ended = [entry.ended_at for entry in report.entries.values() if entry.ended_at is not None]
    if not began or not ended:
        return ""
    return f", in {outline.duration((max(ended) - min(began)).total_seconds(), _WORDS)}"


def _table(report: ProcessExecutionReport) -> str:
    if not report.entries:
        return ""
    successes = report.successes
    left_out = max(0, len(successes) - SUCCESSES_MAX)
    kept = set(islice(successes, SUCCESSES_MAX))
    shown = [entry for key, entry in report.entries.items() if key in kept or entry.status is not TaskStatus.SUCCESS]
    rows = [_row(entry) for entry in shown]
    head = ("task", "status", "tries", "seconds", "CPU s", "peak MiB", "")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    lines = [_line(row, widths) for row in (head, *rows)]
    if left_out:
        lines.append(f"... and {left_out} more that succeeded")
    return "\n".join(lines)


def _row(entry: TaskReportEntry) -> tuple[str, ...]:
    usage = entry.usage
    cpu = usage.cpu_user + (usage.cpu_system or 0.0) if usage is not None and usage.cpu_user is not None else None
    peak = usage.peak_memory if usage is not None else None
    return (
        _middle_cut(outline.in_line(entry.name), _NAME_MAX),
        _outcome(entry),
        str(entry.attempts),
        _seconds(entry) if entry.attempts else "-",
        "-" if cpu is None else f"{cpu:.2f}",
        "-" if peak is None else f"{peak / 2**20:.0f}",
        _note(entry),
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(row, widths, strict=False)
    line = "  ".join(f"{text:{'<' if place < 2 else '>'}{width}}" for place, (text, width) in enumerate(cells))
    room = WIDTH - len(line) - 2
    note = row[-1]
    return f"{line}  {note if len(note) <= room else note[: max(0, room - 1)].rstrip() + '…'}".rstrip()


def _note(entry: TaskReportEntry) -> str:
    if entry.error is not None:
        return outline.in_line(outline.exception_of(entry.error, _WORDS))
    return outline.in_line(entry.why)


def _warnings(report: ProcessExecutionReport) -> Iterable[str]:
    if report.warnings:
        yield "\n".join(["warnings:", *(_filled(f"- {outline.in_line(text, 400)}") for text in report.warnings)])


def _outcome(entry: TaskReportEntry) -> str:
    return entry.status.value


def _seconds(entry: TaskReportEntry) -> str:
    return f"{entry.elapsed_seconds:.2f}"


def _middle_cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = (limit - 1) // 2
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
