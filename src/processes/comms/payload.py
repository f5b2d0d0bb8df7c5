"""
A report as the JSON object that a webhook posts: bounded, whatever the tasks returned.

What 7.0.4 sent is in its place; what is new has keys of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from processes.events import TaskStatus
from processes.failure import LOCAL_CHARS_MAX, LOCALS_MAX, TEXT_CHARS_MAX, shorten, text_of, type_name
from processes.plain import redact

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from processes.error_data import ErrorData
    from processes.report import ProcessExecutionReport, ReportContent, TaskReportEntry

#: Version of the object's shape; a key may be added within one version, none is removed or changes its meaning.
SCHEMA_VERSION = 1

#: Characters of the repr of a result, and of an argument. A longer one is cut at its end and says so.
RESULT_CHARS_MAX = 10_000
ARGUMENT_CHARS_MAX = 2_000

#: Arguments shown of each kind, positional and by keyword.
ARGUMENTS_MAX = 50

#: Bytes of JSON for the details of all entries (results, arguments, tracebacks, locals, downstream tasks). An entry
#: whose details find no room has `details_left_out`, and the facts alone: some 300 bytes. Receivers have limits of
#: their own (AWS API Gateway: 10 MB), and a body that one refuses tells nothing.
DETAILS_BYTES_MAX = 4_000_000

#: Characters of an exception's text in an entry without details.
FACT_CHARS_MAX = 1_000

#: Containers within containers that are looked into, piece by piece; what lies deeper is asked for its repr.
_DEPTH_MAX = 50

_BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("frozenset({", "})")}


def payload(
    report: ProcessExecutionReport, content: ReportContent, *, errors_only: bool, at: datetime
) -> dict[str, object]:
    """
    The report, or with `errors_only` its failures.

    `counts` and `skipped`, {name: why}, are of the whole report in both cases.
    """
    chosen = report.errored if errors_only else report.entries
    entries = _entries(chosen, content)
    for entry in entries.values():
        redact(entry, report.redaction)
    return {
        "process_name": report.process_name,
        "entries": entries,
        "counts": _counts(report),
        "skipped": {name: entry.why for name, entry in report.skipped.items()},
        "errors_only": errors_only,
        "timestamp": at.isoformat(),
        "schema_version": SCHEMA_VERSION,
    }


def _counts(report: ProcessExecutionReport) -> dict[str, int]:
    ended = (TaskStatus.SUCCESS, TaskStatus.ERRORED, TaskStatus.SKIPPED)
    counted = Counter(entry.status.value for entry in report.entries.values())
    return {status.value: 0 for status in ended} | dict(counted)


def _entries(chosen: dict[str, TaskReportEntry], content: ReportContent) -> dict[str, dict[str, Any]]:
    entries = {name: _facts(entry) for name, entry in chosen.items()}
    room = DETAILS_BYTES_MAX
    # Failures first: when room runs short they are what the reader needs.
    for name in sorted(chosen, key=lambda name: chosen[name].status is not TaskStatus.ERRORED):
        details = _details(chosen[name], content) if room else {}
        size = len(json.dumps(details))
        if size <= room and details:
            _merge(entries[name], details)
            room -= size
        else:
            entries[name]["details_left_out"] = True
            room = 0  # From here on none is rendered for nothing.
    return entries


def _merge(facts: dict[str, object], details: dict[str, object]) -> None:
    for key, value in details.items():
        known = facts.get(key)
        facts[key] = known | value if isinstance(known, dict) and isinstance(value, dict) else value


def _facts(entry: TaskReportEntry) -> dict[str, object]:
    facts: dict[str, object] = {
        "status": entry.status.value,
        "function": entry.function,
        "elapsed_seconds": entry.elapsed_seconds,
        "attempts": entry.attempts,
    }
    if entry.started_at is not None and entry.ended_at is not None:
        facts |= {"started_at": entry.started_at.isoformat(), "ended_at": entry.ended_at.isoformat()}
    if entry.why:
        facts["why"] = entry.why
    if entry.error is not None:
        facts["error"] = {
            "exception": shorten(entry.error.exception, FACT_CHARS_MAX),
            "exception_type": entry.error.exception_type,
        }
    return facts


def _details(entry: TaskReportEntry, content: ReportContent) -> dict[str, object]:
    details: dict[str, object] = {"args": _args(entry.args), "kwargs": _kwargs(entry.kwargs)}
    if entry.status is TaskStatus.SUCCESS:
        details["result"] = bounded_text(_result_pieces(entry), RESULT_CHARS_MAX)
    if entry.error is not None:
        details["error"] = _error(entry.error, content)
    return details


def _args(args: tuple[object, ...]) -> list[str]:
    shown = [_argument(arg) for arg in args[:ARGUMENTS_MAX]]
    return shown + ([f"<{len(args) - ARGUMENTS_MAX} more>"] if len(args) > ARGUMENTS_MAX else [])


def _kwargs(kwargs: dict[str, object]) -> dict[str, str]:
    found = [(str(name), arg) for name, arg in kwargs.items()]
    shown = {name: _argument(arg) for name, arg in found[:ARGUMENTS_MAX]}
    return shown | ({"...": f"<{len(found) - ARGUMENTS_MAX} more>"} if len(found) > ARGUMENTS_MAX else {})


def _argument(value: object) -> str:
    return bounded_text(_pieces(value, ()), ARGUMENT_CHARS_MAX)


def _error(error: ErrorData, content: ReportContent) -> dict[str, object]:
    shown: dict[str, object] = {
        "exception": shorten(error.exception, TEXT_CHARS_MAX),
        "downstream_impact": list(error.downstream_impact),
    }
    if content.show_traceback:
        shown["traceback"] = shorten(error.traceback_str, TEXT_CHARS_MAX)
    if content.show_traced_vars and error.traced_vars:
        # Bounded where they were captured, but a report made by hand may hold more.
        found = [(str(name), str(text)) for name, text in list(error.traced_vars.items())[: LOCALS_MAX + 1]]
        shown["traced_vars"] = {name: shorten(text, LOCAL_CHARS_MAX + 100) for name, text in found}
        shown["traced_vars_location"] = error.traced_vars_location
    return shown


def bounded_text(pieces: Iterator[str], limit: int) -> str:
    """The pieces together, cut after `limit` characters: what is cut is never made. Cannot fail, whatever they do."""
    found: list[str] = []
    size = 0
    try:
        for piece in pieces:
            found.append(piece)
            size += len(piece)
            if size > limit:
                return "".join(found)[:limit] + f"... [cut after {limit} characters]"
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001  foreign code
        return f"<unreprable: {type_name(type(trouble))}: {shorten(text_of(trouble), 200)}>"
    return "".join(found)


def _result_pieces(entry: TaskReportEntry) -> Iterator[str]:
    yield from _pieces(entry.result, ())  # A child's is unpickled here, which is foreign code too.


def _pieces(value: object, inside: tuple[int, ...]) -> Iterator[str]:
    """`repr(value)` from its beginning; the containers that it lies in are known by `id`."""
    kind = type(value)
    if kind in {str, bytes, bytearray} and isinstance(value, str | bytes | bytearray) and len(value) > RESULT_CHARS_MAX:
        yield repr(value[: RESULT_CHARS_MAX + 1])  # No limit is larger.
    elif kind is dict and isinstance(value, dict) and len(inside) < _DEPTH_MAX:
        yield from _dict_pieces(value, inside)
    elif kind in _BRACKETS and isinstance(value, list | tuple | set | frozenset) and value and len(inside) < _DEPTH_MAX:
        yield from _row_pieces(value, inside)
    else:
        yield repr(value)


def _dict_pieces(value: dict[object, object], inside: tuple[int, ...]) -> Iterator[str]:
    if id(value) in inside:
        yield "{...}"
        return
    inside = (*inside, id(value))
    yield "{"
    for number, (key, part) in enumerate(value.items()):
        if number:
            yield ", "
        yield from _pieces(key, inside)
        yield ": "
        yield from _pieces(part, inside)
    yield "}"


def _row_pieces(
    value: list[object] | tuple[object, ...] | set[object] | frozenset[object], inside: tuple[int, ...]
) -> Iterator[str]:
    opening, closing = _BRACKETS[type(value)]
    if id(value) in inside:
        yield f"{opening}...{closing}"
        return
    inside = (*inside, id(value))
    yield opening
    for number, part in enumerate(value):
        if number:
            yield ", "
        yield from _pieces(part, inside)
    yield ",)" if type(value) is tuple and len(value) == 1 else closing
