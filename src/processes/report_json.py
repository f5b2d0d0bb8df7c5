"""
A report as JSON text, and back.

The document is an object:

    entries         {task: its entry, with the nine keys of 7.0.4 and no other; `error` is null or has nine keys, too}
    process_name    name of the Process
    metrics         {task: started_at, ended_at, worker_pid, usage, attempt_log, why}
    failures        {task that failed: what is known beyond the nine keys of its error}
    run             the fields of RunInfo where they are known, and `warnings`
    schema_version  SCHEMA_VERSION

Compatibility. Within one schema version keys are added, beside `entries`, and none is removed or changes its meaning:
whoever reads a document ignores the keys that he does not know, and does without those that are not there. What cannot
be done so raises SCHEMA_VERSION, and `read` refuses a document of a version above its own. What 7.0.4 wrote, which has
`entries` and `process_name` only, can be read for ever.

Both directions are here, so that what one writes the other reads: `write(read(t)) == t` with the same options. Runs in
the parent.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from processes.error_data import CONTEXT_FIELDS, ErrorData, ExceptionData, FrameData
from processes.events import TaskStatus
from processes.failure import bounded_repr, shorten
from processes.plain import attribute, plain, redact, texts_of
from processes.record import AttemptRecord, Usage
from processes.report import TaskReportEntry
from processes.run_info import RunInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import UnionType

    from processes.report import ProcessExecutionReport

#: Version of the document: see above.
SCHEMA_VERSION = 1

#: Fixed by 7.0.4: the keys of one entry.
ENTRY_KEYS = ("name", "function", "args", "kwargs", "status", "elapsed_seconds", "attempts", "result", "error")

_RUN_KEYS = tuple(field.name for field in dataclasses.fields(RunInfo))
_RUN_TEXTS = tuple(field.name for field in dataclasses.fields(RunInfo) if field.default == "")
_FURTHER_ERROR_FIELDS = tuple(field for field in dataclasses.fields(ErrorData) if field.name not in CONTEXT_FIELDS)
_PLAIN_ERROR_FIELDS = tuple(field for field in _FURTHER_ERROR_FIELDS if field.name != "chain")

#: How `plain` writes a float that JSON has not.
_NOT_FINITE = ("nan", "inf", "-inf")

#: Characters of what stands in the wrong place, in an error.
_SHOWN_CHARS_MAX = 100


# ---- to JSON ---------------------------------------------------------------------------------------------------------


def write(report: ProcessExecutionReport, **options: Any) -> str:  # noqa: ANN401  those of json.dumps
    """The document as text."""
    options["default"] = None  # Nothing is left for it.
    options.setdefault("check_circular", False)  # None is left.
    document: Any = plain(_document(report))
    for entry in document["entries"].values():
        # Its name and status are nobody's secret; of what else it has, the keys' values are looked at.
        redact([entry[key] for key in ("args", "kwargs", "error")], report.redaction)
        held = {"result": entry["result"]}
        redact(held, report.redaction)
        entry["result"] = held["result"]
    return json.dumps(document, **options)


def _document(report: ProcessExecutionReport) -> dict[str, object]:
    # Their texts are made here, once: each part of the document is to have the same ones.
    entries = dict(zip(texts_of(report.entries), report.entries.values(), strict=True))
    run = {} if report.run is None else {key: _instant_as_text(getattr(report.run, key)) for key in _RUN_KEYS}
    return {
        "entries": {key: _entry(entry) for key, entry in entries.items()},
        "process_name": report.process_name,
        "metrics": {key: _metrics(entry) for key, entry in entries.items()},
        "failures": {
            key: {field.name: getattr(entry.error, field.name) for field in _FURTHER_ERROR_FIELDS}
            for key, entry in entries.items()
            if entry.error is not None
        },
        "run": run | {"warnings": report.warnings},
        "schema_version": SCHEMA_VERSION,
    }


def _entry(entry: TaskReportEntry) -> dict[str, object]:
    # A result is unpickled when it is read, and a function may not give its name.
    written = {key: attribute(entry, key) for key in ENTRY_KEYS}
    if entry.error is not None:
        written["error"] = {key: getattr(entry.error, key) for key in CONTEXT_FIELDS}
    return written


def _metrics(entry: TaskReportEntry) -> dict[str, object]:
    return {
        "started_at": _instant_as_text(entry.started_at),
        "ended_at": _instant_as_text(entry.ended_at),
        "worker_pid": entry.worker_pid,
        "usage": entry.usage,
        "attempt_log": entry.attempt_log,
        "why": entry.why,
    }


def _instant_as_text(value: object) -> object:
    return datetime.isoformat(value) if isinstance(value, datetime) else value


# ---- from JSON -------------------------------------------------------------------------------------------------------


def read(text: str | bytes | bytearray) -> tuple[dict[str, TaskReportEntry], str, tuple[str, ...], RunInfo | None]:
    """
    The fields of a report, from its text.

    Raises:
        ValueError: It is no such document; it says what is wrong, and where.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is no report: it cannot be read as JSON ({error}).") from error
    try:
        return _read(_Object(found, "the document"))
    except RecursionError as error:  # Groups of exceptions within groups: the one part that may go deep.
        raise ValueError("This is no report: it is nested too deeply.") from error


def _read(document: _Object) -> tuple[dict[str, TaskReportEntry], str, tuple[str, ...], RunInfo | None]:
    _check_version(document)
    metrics, failures = document.inner("metrics"), document.inner("failures")
    entries = document.inner("entries", is_needed=True)
    run = document.inner("run")
    return (
        {key: _read_entry(entries.inner(key), metrics.inner(key), failures.inner(key)) for key in entries},
        document.get("process_name", str | None, "a text or null"),  # a Process may be called None
        tuple(run.row("warnings", [])),
        _read_run(run),
    )


def _check_version(document: _Object) -> None:
    version = document.get("schema_version", int, "a whole number", 1)  # 7.0.4 wrote none.
    if version > SCHEMA_VERSION:
        writer = document.inner("run").text("version", "") or "a newer one"
        raise ValueError(
            f"This report has schema_version {version}, and this version of processes reads up to {SCHEMA_VERSION}. "
            f"It was written by processes {writer}: read it with that."
        )


def _read_entry(entry: _Object, metrics: _Object, failure: _Object) -> TaskReportEntry:
    return TaskReportEntry(
        name=entry.text("name"),
        function=entry.text("function"),
        args=tuple(entry.row("args")),
        kwargs=entry.get("kwargs", dict, "an object"),
        status=_read_status(entry),
        elapsed_seconds=entry.number("elapsed_seconds"),
        attempts=entry.number("attempts"),
        result=entry.get("result", object, "anything"),
        error=_read_error(entry, failure),
        started_at=metrics.instant("started_at"),
        ended_at=metrics.instant("ended_at"),
        worker_pid=metrics.number("worker_pid", None),
        usage=_read_usage(metrics),
        attempt_log=tuple([_read_attempt(record) for record in metrics.rows("attempt_log")]),
        why=metrics.text("why", ""),
    )


def _read_status(entry: _Object) -> TaskStatus:
    text = entry.text("status")
    try:
        return TaskStatus(text)
    except ValueError:
        raise entry.wrong("status", f"one of {', '.join(status.value for status in TaskStatus)}", text) from None


def _read_error(entry: _Object, failure: _Object) -> ErrorData | None:
    if entry.get("error", dict, "an object or null", None) is None:
        return None
    error = entry.inner("error")
    return ErrorData(
        error.text("task_name"),
        error.text("function"),
        tuple(error.row("args")),
        error.get("kwargs", dict, "an object"),
        error.row("downstream_impact"),
        error.text("exception"),
        error.text("traceback_str"),
        error.get("traced_vars", dict, "an object"),
        error.text("traced_vars_location"),
        chain=_read_chain(failure.rows("chain")),
        **{field.name: failure.like(field) for field in _PLAIN_ERROR_FIELDS if field.name in failure},
    )


def _read_chain(links: list[_Object]) -> tuple[ExceptionData, ...]:
    return tuple([_read_link(link) for link in links])


def _read_link(link: _Object) -> ExceptionData:
    return ExceptionData(
        link.text("relation"),
        link.text("type"),
        link.text("text"),
        tuple(link.row("notes", [])),
        tuple([_read_frame(frame) for frame in link.rows("frames")]),
        link.number("frames_left_out", 0),
        tuple([_read_chain(member) for member in link.rows_of_rows("members")]),
    )


def _read_frame(frame: _Object) -> FrameData:
    return FrameData(
        frame.text("file"),
        frame.number("line"),
        frame.text("function"),
        frame.text("source", ""),
        frame.get("locals", dict, "an object", {}),
    )


def _read_attempt(record: _Object) -> AttemptRecord:
    return AttemptRecord(
        record.number("attempt"),
        record.text("outcome"),
        record.number("seconds"),
        record.text("why", ""),
        record.number("worker_pid", None),
        _read_usage(record),
    )


def _read_usage(owner: _Object) -> Usage | None:
    if owner.get("usage", dict, "an object", None) is None:
        return None
    usage = owner.inner("usage")
    return Usage(
        usage.number("peak_memory", None),
        usage.number("memory_growth", None),
        usage.number("cpu_user", None),
        usage.number("cpu_system", None),
        usage.get("peak_source", str, "a text", None),
    )


def _read_run(run: _Object) -> RunInfo | None:
    if not any(key in run for key in _RUN_KEYS):
        return None  # A report that was built by hand, or by 7.0.4.
    return RunInfo(
        started_at=run.instant("started_at"),
        ended_at=run.instant("ended_at"),
        seconds=run.number("seconds", None),
        max_workers=run.number("max_workers", None),
        redact=_read_rule(run),
        **{key: run.text(key, "") for key in _RUN_TEXTS},
    )


def _read_rule(run: _Object) -> bool | tuple[str, ...]:
    rule = run.get("redact", object, "true, false or names", True)
    if isinstance(rule, bool):
        return rule
    if isinstance(rule, list) and all(isinstance(name, str) and name for name in rule):
        return tuple(rule)
    raise run.wrong("redact", "true, false or names", rule)


_NEEDED = object()


class _Object:
    """An object of the document, and where it stands, for errors. A key that is needed has no default."""

    __slots__ = ("_found", "_where")

    def __init__(self, found: object, where: str) -> None:
        if not isinstance(found, dict):
            raise _wrong(where, "an object", found)
        self._found: dict[str, Any] = found
        self._where = where

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def get(self, key: str, kind: type | UnionType, expected: str, default: object = _NEEDED) -> Any:  # noqa: ANN401  of that kind
        """A value of a kind; null where that is the default."""
        value = self._found.get(key, default)
        if value is _NEEDED:
            raise ValueError(f"This is no report: {self._where} has no {key!r}.")
        if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not object)):
            raise self.wrong(key, expected, value)
        return value

    def text(self, key: str, default: object = _NEEDED) -> str:
        return self.get(key, str, "a text", default)  # type: ignore[no-any-return]

    def number(self, key: str, default: object = _NEEDED) -> Any:  # noqa: ANN401  int or float, as it was written
        value = self._found.get(key, default)
        if isinstance(value, str) and value in _NOT_FINITE:
            return float(value)
        return self.get(key, float if isinstance(value, float) else int, "a number", default)

    def instant(self, key: str) -> datetime | None:
        text = self.get(key, str, "a text", None)
        try:
            return None if text is None else datetime.fromisoformat(text)
        except ValueError:
            raise self.wrong(key, "an instant in ISO format", text) from None

    def row(self, key: str, default: object = _NEEDED) -> list[Any]:
        return self.get(key, list, "a list", default)  # type: ignore[no-any-return]

    def rows(self, key: str) -> list[_Object]:
        """The objects in a list."""
        return _objects(self.row(key, []), f"{self._where}[{key!r}]")

    def rows_of_rows(self, key: str) -> list[list[_Object]]:
        """The objects in each list of a list."""
        where = f"{self._where}[{key!r}]"
        return [_objects(part, f"{where}[{place}]") for place, part in enumerate(self.row(key, []))]

    def inner(self, key: str, *, is_needed: bool = False) -> _Object:
        """An object within; an empty one where there is none."""
        if key not in self._found and not is_needed:
            return _EMPTY
        found = self.get(key, object, "an object")
        return _Object(found, f"{self._where}[{key!r}]")

    def like(self, field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401  of the field's kind
        """The value of a field that is a text, a tuple or anything plain."""
        if isinstance(field.default, tuple):
            return tuple(self.row(field.name))
        return self.get(field.name, str if isinstance(field.default, str) else object, "a text")

    def wrong(self, key: str, expected: str, value: object) -> ValueError:
        return _wrong(f"{self._where}[{key!r}]", expected, value)


_EMPTY = _Object({}, "")


def _objects(found: object, where: str) -> list[_Object]:
    if not isinstance(found, list):
        raise _wrong(where, "a list", found)
    return [_Object(part, f"{where}[{place}]") for place, part in enumerate(found)]


def _wrong(where: str, expected: str, value: object) -> ValueError:
    return ValueError(
        f"This is no report: {where} must be {expected}, not {shorten(bounded_repr(value), _SHOWN_CHARS_MAX)}."
    )
