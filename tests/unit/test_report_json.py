"""A report as JSON and back: what is written can be read, by strict readers too, and is written the same again."""

import dataclasses
import enum
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processes import report_json
from processes.comms.html import HTMLEmailStyle, render_html
from processes.comms.payload import payload
from processes.comms.text import render_text
from processes.error_data import CONTEXT_FIELDS, ErrorData, ExceptionData, FrameData
from processes.events import TaskStatus
from processes.record import AttemptRecord, Usage
from processes.report import ProcessExecutionReport, ReportChannel, ReportContent, TaskReportEntry, entry_of
from processes.report_json import ENTRY_KEYS, SCHEMA_VERSION
from processes.run_info import RunInfo
from support import reports, strict

RUN = RunInfo(
    started_at=reports.STARTED,
    ended_at=reports.STARTED + timedelta(seconds=12.5),
    seconds=12.5,
    mode="processes",
    max_workers=4,
    start_method="forkserver",
    python="3.12.1",
    platform="Linux 6.8.0 x86_64",
    host="worker-3",
    version="8.0.0",
)

WARNINGS = ("a worker was replaced", "the disk is full")


FRAMES = (FrameData("load.py", 44, "load_table", "raise ValueError(table)", {"table": "'flights'"}),)

#: A group that came of an exception.
CHAIN = (
    ExceptionData("", "ExceptionGroup", "two", ("a note",), FRAMES, 3, ((ExceptionData("", "KeyError", "1"),), ())),
    ExceptionData("cause", "ValueError", "no table", (), FRAMES),
)


def full_report() -> ProcessExecutionReport:
    """One of each kind of entry, with everything known."""
    error = reports.error(chain=CHAIN, stuck_at="load.py:44", last_log_lines=("reading", "writing"))
    made = reports.report(
        reports.succeeded(), reports.failed(error=error), reports.skipped(), reports.skipped("report")
    )
    return replace(made, warnings=WARNINGS, run=RUN)


def again(report: ProcessExecutionReport, **options: Any) -> ProcessExecutionReport:  # noqa: ANN401  json.dumps' own
    """The report read back, which writes the same text."""
    text = report.to_json(**options)
    found = ProcessExecutionReport.from_json(text)
    assert found.to_json(**options) == text
    return found


# ---- there and back --------------------------------------------------------------------------------------------------


def test_report_read_back_is_equal_where_json_has_its_values() -> None:
    """Instants, usage, attempts, errors with all their fields, warnings, and the run."""
    found = again(full_report())
    assert found == full_report()
    assert found.run == RUN


def test_report_read_back_has_text_for_what_json_has_not() -> None:
    """Tuples are lists, objects their text; the arguments themselves are a tuple and a dict, as everywhere."""
    entry = reports.succeeded(args=((1, 2), Path("/a")), kwargs={"k": {3}}, result=float("inf"))
    found = again(ProcessExecutionReport({"a": entry})).entries["a"]
    assert (found.args, found.kwargs, found.result) == (([1, 2], repr(Path("/a"))), {"k": [3]}, "inf")


@pytest.mark.parametrize(
    "options",
    [{}, {"indent": 2}, {"sort_keys": True}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": "\t"}],
    ids=repr,
)
def test_report_is_written_the_same_again_with_the_same_options(options: dict[str, Any]) -> None:
    """Whichever: the text is the same, and `sort_keys` sorts the entries."""
    found = again(full_report(), **options)
    assert sorted(found.entries) == sorted(full_report().entries)


def test_report_of_a_process_called_none_is_read_as_that() -> None:
    """7.8, 14.5: any name may be given to a Process; None is written as null."""
    nameless = replace(full_report(), process_name=None)  # type: ignore[arg-type]
    assert strict.loads(nameless.to_json())["process_name"] is None
    assert again(nameless) == nameless


def test_report_without_a_run_is_read_without_one() -> None:
    """One that was built by hand: its warnings are kept, and nothing is made up."""
    found = again(replace(full_report(), run=None))
    assert (found.run, found.warnings) == (None, WARNINGS)


def test_report_with_an_unknown_run_is_read_so() -> None:
    """A run of which nothing is known is not the same as none."""
    assert again(ProcessExecutionReport(run=RunInfo())).run == RunInfo()


def test_report_takes_any_name_and_any_time() -> None:
    """Names of any alphabet, times that are no numbers, clocks of other places and of none."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
    entry = reports.succeeded("\ud800 ü", elapsed_seconds=float("nan"), started_at=at, ended_at=at.replace(tzinfo=None))
    found = again(ProcessExecutionReport({"1": entry, "\ud800": entry}, "\udcff"), ensure_ascii=False)
    assert list(found.entries) == ["1", "\\ud800"]
    assert found.entries["1"].started_at == at
    assert found.entries["1"].elapsed_seconds != found.entries["1"].elapsed_seconds


def test_report_takes_names_that_read_the_same() -> None:
    """A report built by hand may have any keys: each part of the document has the same ones."""
    entries: dict[Any, TaskReportEntry] = {1: reports.succeeded(), "1": reports.failed()}
    document = strict.loads(ProcessExecutionReport(entries).to_json())
    assert list(document["entries"]) == list(document["metrics"]) == ["1 (2)", "1"]
    assert list(document["failures"]) == ["1"]


def test_report_writes_a_result_that_cannot_be_loaded_as_its_reason() -> None:
    """And reads it back as that."""

    def explode(handle: object) -> object:
        raise LookupError("no such class")

    call = SimpleNamespace(name="bad", func=len, args=(), kwargs={})
    bad = entry_of(reports.recorded(call, explode, status=TaskStatus.SUCCESS, handle="handle"))
    found = again(ProcessExecutionReport({"bad": bad, "ok": reports.succeeded()}))
    assert found.entries["bad"].result == "<result cannot be read: LookupError: no such class>"
    assert found.entries["ok"] == reports.succeeded()


def test_failures_hold_every_field_of_an_error_after_the_ninth() -> None:
    """Those that ErrorData has now and those that it will have."""
    names = [field.name for field in fields(ErrorData)]
    assert names[:9] == list(CONTEXT_FIELDS)
    document = strict.loads(full_report().to_json())
    assert list(document["failures"]["load"]) == names[9:]
    assert "exception_type" in names[9:]


def test_run_holds_its_fields_and_the_warnings() -> None:
    """Instants in ISO format."""
    run = strict.loads(full_report().to_json())["run"]
    assert list(run) == [*(field.name for field in fields(RunInfo)), "warnings"]
    assert run["started_at"] == reports.STARTED.isoformat()
    assert run["warnings"] == list(WARNINGS)


# ---- a report that was read ------------------------------------------------------------------------------------------


class Kept(ReportChannel):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[ProcessExecutionReport] = []

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        self.sent.append(report)


def test_report_read_back_is_sorted_and_sent_like_any() -> None:
    """Its properties and `notify` work."""
    found = again(full_report())
    assert [list(part) for part in (found.successes, found.errored, found.skipped)] == [
        ["extract"],
        ["load"],
        ["publish", "report"],
    ]
    channel = Kept()
    assert [sent.delivered for sent in found.notify(channel, only_errors=True, tasks=["LOAD"])] == [True]
    assert list(channel.sent[0].entries) == ["load"]


def test_report_read_back_raises_what_stands_for_the_exceptions() -> None:
    """The exceptions themselves are not in the text; their types and texts are."""
    found = again(full_report())
    with pytest.raises(ExceptionGroup) as caught:
        found.raise_for_errors()
    assert [str(error) for error in caught.value.exceptions] == [str(found.entries["load"].exception)]
    assert "no table 'flights'" in str(caught.value.exceptions[0])


def test_report_read_back_is_rendered_like_any() -> None:
    """As text, as a page, and as what a webhook posts."""
    told: dict[str, Any] = {"content": ReportContent(), "errors_only": False, "generated_at": reports.GENERATED}
    before, after = full_report(), again(full_report())
    assert render_text(after, language="en", **told) == render_text(before, language="en", **told)
    style = HTMLEmailStyle()
    assert render_html(after, style=style, **told) == render_html(before, style=style, **told)
    posted = [payload(report, ReportContent(), errors_only=False, at=reports.GENERATED) for report in (before, after)]
    assert posted[0] == posted[1]


# ---- older and newer texts -------------------------------------------------------------------------------------------

#: As 7.0.4 wrote it, with what it made of NaN.
OLD_TEXT = """
{"entries": {
  "a": {"name": "a", "function": "f", "args": [1], "kwargs": {}, "status": "success", "elapsed_seconds": 0.5,
        "attempts": 1, "result": NaN, "error": null},
  "b": {"name": "b", "function": "g", "args": [], "kwargs": {"x": null}, "status": "errored", "elapsed_seconds": 0,
        "attempts": 2, "result": null, "error": {
          "task_name": "b", "function": "g", "args": [], "kwargs": {"x": null}, "downstream_impact": ["c"],
          "exception": "wrong", "traceback_str": "Traceback", "traced_vars": {"x": "None"},
          "traced_vars_location": "f.py:1"}}},
 "process_name": "old"}
"""


def test_text_of_704_is_read() -> None:
    """What it did not write is not known."""
    found = ProcessExecutionReport.from_json(OLD_TEXT)
    error = ErrorData("b", "g", (), {"x": None}, ["c"], "wrong", "Traceback", {"x": "None"}, "f.py:1")
    assert found.process_name == "old"
    assert replace(found.entries["a"], result=None) == TaskReportEntry("a", "f", (1,), {}, TaskStatus.SUCCESS, 0.5, 1)
    assert found.entries["b"] == TaskReportEntry("b", "g", (), {"x": None}, TaskStatus.ERRORED, 0, 2, None, error)
    assert (found.warnings, found.run) == ((), None)
    assert strict.loads(found.to_json())["entries"]["a"]["result"] == "nan"


def test_text_with_keys_of_a_later_version_is_read() -> None:
    """Within one schema version keys are added in any object: they are left out."""
    document = json.loads(full_report().to_json())
    for found in _objects(document):
        found["of_a_later_version"] = {"a": [1]}
    for name in ("entries", "metrics", "failures"):
        del document[name]["of_a_later_version"]  # There keys are names of tasks.
    read = ProcessExecutionReport.from_json(json.dumps(document))
    assert read == full_report()
    assert read.run == RUN


#: Values of these keys have keys of the user's.
USERS = {"kwargs", "result", "traced_vars", "locals"}


def _objects(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, part in list(value.items()):
            if key not in USERS:
                yield from _objects(part)
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


@pytest.mark.parametrize("key", ["metrics", "failures", "run", "schema_version"])
def test_text_without_what_is_new_is_read(key: str) -> None:
    """Each part beside the entries may be missing."""
    document = json.loads(full_report().to_json())
    del document[key]
    assert list(ProcessExecutionReport.from_json(json.dumps(document)).entries) == list(full_report().entries)


@pytest.mark.parametrize("kind", [str.encode, lambda text: bytearray(text.encode())])
def test_text_may_be_bytes(kind: Any) -> None:  # noqa: ANN401  a conversion
    """As they were read of a file."""
    assert ProcessExecutionReport.from_json(kind(full_report().to_json())) == full_report()


# ---- rubbish ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[1,", "\ud800", b"\xff\xfe\x00", "[" * 100_000, "9" * 5_000, "<html>"])
def test_text_that_is_no_json_is_refused(text: str | bytes) -> None:
    """By a ValueError that says so, whatever Python's reader makes of it."""
    with pytest.raises(ValueError, match=r"^This is no report: it cannot be read as JSON \("):
        ProcessExecutionReport.from_json(text)


@pytest.mark.parametrize("text", [None, 3, {"entries": {}}])
def test_what_is_no_text_is_a_type_error(text: Any) -> None:  # noqa: ANN401  anything
    """It is not the text that is wrong."""
    with pytest.raises(TypeError):
        ProcessExecutionReport.from_json(text)


def _changed(path: list[Any], value: object) -> str:
    document = json.loads(full_report().to_json())
    owner = document
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["entries"], [], "the document['entries'] must be an object, not []."),
        (["entries", "load"], 5, "the document['entries']['load'] must be an object, not 5."),
        (["entries", "load", "name"], None, "the document['entries']['load']['name'] must be a text, not None."),
        (["entries", "load", "args"], "x", "['args'] must be a list, not 'x'."),
        (["entries", "load", "kwargs"], [], "['kwargs'] must be an object, not []."),
        (["entries", "load", "attempts"], "many", "['attempts'] must be a number, not 'many'."),
        (["entries", "load", "attempts"], True, "['attempts'] must be a number, not True."),
        (
            ["entries", "load", "status"],
            "lost",
            "['status'] must be one of pending, success, errored, skipped, not 'lost'.",
        ),
        (["entries", "load", "error"], "x", "['load']['error'] must be an object or null, not 'x'."),
        (["entries", "load", "error"], {}, "the document['entries']['load']['error'] has no 'task_name'."),
        (["entries", "load", "error", "traced_vars"], None, "['traced_vars'] must be an object, not None."),
        (["metrics"], 1, "the document['metrics'] must be an object, not 1."),
        (
            ["metrics", "load", "started_at"],
            "noon",
            "the document['metrics']['load']['started_at'] must be an instant in ISO format, not 'noon'.",
        ),
        (["metrics", "load", "usage"], 1, "['usage'] must be an object, not 1."),
        (["metrics", "load", "usage"], {"peak_memory": "x"}, "['usage']['peak_memory'] must be a number, not 'x'."),
        (["metrics", "load", "attempt_log"], [1], "['attempt_log'][0] must be an object, not 1."),
        (["metrics", "load", "attempt_log"], [{}], "['attempt_log'][0] has no 'attempt'."),
        (["failures", "load", "exception_type"], 1, "['load']['exception_type'] must be a text, not 1."),
        (["failures", "load", "chain"], "x", "['load']['chain'] must be a list, not 'x'."),
        (["failures", "load", "chain", 0, "members"], [1], "['chain'][0]['members'][0] must be a list, not 1."),
        (
            ["failures", "load", "chain", 1, "frames", 0, "line"],
            "x",
            "['frames'][0]['line'] must be a number, not 'x'.",
        ),
        (["run", "warnings"], "x", "the document['run']['warnings'] must be a list, not 'x'."),
        (["run", "seconds"], [], "the document['run']['seconds'] must be a number, not []."),
        (["process_name"], 1, "the document['process_name'] must be a text or null, not 1."),
        (["schema_version"], "1", "the document['schema_version'] must be a whole number, not '1'."),
        (["entries", "load", "args"], "x" * 10_000, "characters left out"),
    ],
    ids=lambda value: "/".join(map(str, value)) if isinstance(value, list) else None,
)
def test_text_that_is_no_report_is_refused(path: list[Any], value: object, expected: str) -> None:
    """By a ValueError that says what is wrong, and where."""
    with pytest.raises(ValueError, match=r"^This is no report: ") as caught:
        ProcessExecutionReport.from_json(_changed(path, value))
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", "This is no report: the document must be an object, not None."),
        ("[]", "This is no report: the document must be an object, not []."),
        ("{}", "This is no report: the document has no 'entries'."),
        (
            '{"entries": {"a": {}}, "process_name": ""}',
            "This is no report: the document['entries']['a'] has no 'name'.",
        ),
    ],
)
def test_json_that_is_no_report_is_refused(text: str, expected: str) -> None:
    """As above."""
    with pytest.raises(ValueError, match=r"^This is no report") as caught:
        ProcessExecutionReport.from_json(text)
    assert str(caught.value) == expected


def test_text_that_is_nested_too_deeply_is_refused() -> None:
    """Groups within groups that no run makes, as far as Python's reader goes."""
    chain = "[]"
    for _ in range(1_000):
        chain = f'[{{"relation": "", "type": "", "text": "", "members": [{chain}]}}]'
    changed = _changed(["failures", "load", "chain"], "HERE").replace('"HERE"', chain)
    with pytest.raises(ValueError, match=r"^This is no report: "):
        ProcessExecutionReport.from_json(changed)


def test_text_of_a_later_schema_is_refused() -> None:
    """With the version that wrote it, since its keys may mean something else."""
    document = json.loads(full_report().to_json()) | {"schema_version": SCHEMA_VERSION + 1}
    document["run"]["version"] = "9.1.0"
    with pytest.raises(
        ValueError, match=r"has schema_version 2, .* reads up to 1\. It was written by processes 9\.1\.0"
    ):
        ProcessExecutionReport.from_json(json.dumps(document))


# ---- anything --------------------------------------------------------------------------------------------------------

# Strategies are made once, since making one costs more than drawing from it; not at import, for other tests' sake.

#: The same examples in every run, and none kept on disk.
ANYTHING = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Odd(enum.Enum):
    """Plain values, and others."""

    TEXT = "text"
    PATH = Path("/a")
    PAIR = (1, frozenset({2}))


@dataclasses.dataclass(frozen=True)
class Pair:
    """A user's dataclass."""

    left: object
    right: object


@dataclasses.dataclass(slots=True)
class Half:
    """One of whose fields is missing."""

    left: object
    right: object = dataclasses.field(init=False)


class BadRepr:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class BadItems(dict[Any, Any]):
    """A dict that does not give its items."""

    def items(self) -> Any:  # noqa: ANN401  it gives none
        raise ZeroDivisionError


def _circular(parts: list[Any]) -> list[Any]:
    """It holds itself, directly and further down."""
    parts.append(parts)
    parts.append({"back": [parts]})
    return parts


@cache
def _texts() -> st.SearchStrategy[str]:
    """Of every character that a str may hold, lone surrogates too."""
    return st.text(st.characters(exclude_categories=()), max_size=5)


@cache
def _scalars() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        _texts(),
        st.binary(max_size=5),
        st.complex_numbers(),
        st.sampled_from([*Odd, *TaskStatus, Path("/b"), "1", 1, 1.0, "null", "nan", b"1", object]),
        # Made when they are drawn: Hypothesis shows what it chooses from.
        st.builds(BadRepr),
        st.builds(pow, st.just(10), st.just(5000)),
    )


@cache
def _keys() -> st.SearchStrategy[Any]:
    """What a dict takes."""
    return st.one_of(_scalars(), st.tuples(_scalars(), _scalars()), st.frozensets(_scalars(), max_size=2))


@cache
def _values() -> st.SearchStrategy[Any]:
    return st.recursive(
        _scalars() | st.builds(bytearray, st.binary(max_size=5)),
        lambda parts: st.one_of(
            st.lists(parts, max_size=4),
            st.lists(parts, max_size=2).map(tuple),
            st.lists(parts, max_size=2).map(_circular),
            st.dictionaries(_keys(), parts, max_size=4),
            st.dictionaries(_keys(), parts, max_size=2).map(BadItems),
            st.sets(_keys(), max_size=3),
            st.builds(Pair, parts, parts),
            st.builds(Half, parts),
        ),
        max_leaves=15,
    )


@cache
def _instants() -> st.SearchStrategy[datetime | None]:
    return st.none() | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), None]))


@cache
def _chains(depth: int) -> st.SearchStrategy[Any]:
    frames = st.builds(
        FrameData, _texts(), st.integers(), _texts(), _texts(), st.dictionaries(_texts(), _texts(), max_size=1)
    )
    members = st.lists(_chains(depth - 1), max_size=2).map(tuple) if depth else st.just(())
    links = st.builds(
        ExceptionData,
        _texts(),
        _texts(),
        _texts(),
        st.lists(_texts(), max_size=1).map(tuple),
        st.lists(frames, max_size=1).map(tuple),
        st.integers(),
        members,
    )
    return st.lists(links, max_size=2).map(tuple)


@cache
def _entries() -> st.SearchStrategy[TaskReportEntry]:
    calls = {
        "args": st.lists(_values(), max_size=2).map(tuple),
        "kwargs": st.dictionaries(_texts(), _values(), max_size=2),
    }
    usages = st.none() | st.builds(
        Usage,
        st.none() | st.integers(),
        st.none() | st.integers(),
        st.none() | st.floats(),
        st.none() | st.floats(),
        st.none() | _texts(),
    )
    errors = st.none() | st.builds(
        ErrorData,
        task_name=_texts(),
        function=_texts(),
        **calls,
        downstream_impact=st.lists(_texts(), max_size=2),
        exception=_texts(),
        traceback_str=_texts(),
        traced_vars=st.dictionaries(_texts(), _texts(), max_size=2),
        traced_vars_location=_texts(),
        exception_type=_texts(),
        chain=_chains(2),
        stuck_at=_texts(),
        last_log_lines=st.lists(_texts(), max_size=2).map(tuple),
    )
    attempts = st.builds(
        AttemptRecord, st.integers(), _texts(), st.floats(), _texts(), st.none() | st.integers(), usages
    )
    return st.builds(
        TaskReportEntry,
        name=_texts(),
        function=_texts(),
        **calls,
        status=st.sampled_from(TaskStatus),
        elapsed_seconds=st.floats(),
        attempts=st.integers(),
        result=_values(),
        error=errors,
        started_at=_instants(),
        ended_at=_instants(),
        worker_pid=st.none() | st.integers(),
        usage=usages,
        attempt_log=st.lists(attempts, max_size=2).map(tuple),
        why=_texts(),
    )


@cache
def _reports() -> st.SearchStrategy[ProcessExecutionReport]:
    texts = {field.name: _texts() for field in fields(RunInfo) if field.default == ""}
    runs = st.none() | st.builds(
        RunInfo,
        started_at=_instants(),
        ended_at=_instants(),
        seconds=st.none() | st.floats(),
        max_workers=st.none() | st.integers(),
        **texts,
    )
    return st.builds(
        ProcessExecutionReport,
        st.dictionaries(_texts(), _entries(), max_size=3),
        _texts(),
        st.lists(_texts(), max_size=2).map(tuple),
        runs,
    )


@cache
def _options() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "indent": st.sampled_from([None, 0, 2, "\t"]),
            "sort_keys": st.booleans(),
            "ensure_ascii": st.booleans(),
            "allow_nan": st.booleans(),
            "separators": st.just((",", ":")),
        },
    )


@ANYTHING
@given(st.data())
def test_any_value_is_strict_json_and_stays_as_it_was_written(data: st.DataObject) -> None:
    """Whatever a task returned, with whatever options: every reader takes it, and it is written the same again."""
    value, options = data.draw(_values()), data.draw(_options())
    entry = TaskReportEntry("a", "f", (), {}, TaskStatus.SUCCESS, 0.0, 1, value)
    report = ProcessExecutionReport({"a": entry})
    document = strict.loads(report.to_json(**options))
    assert sorted(document["entries"]["a"]) == sorted(ENTRY_KEYS)
    assert again(report, **options).entries["a"].result == document["entries"]["a"]["result"]


@ANYTHING
@given(st.data())
def test_any_report_is_strict_json_and_is_written_the_same_again(data: st.DataObject) -> None:
    """Whatever it holds."""
    report, options = data.draw(_reports()), data.draw(_options())
    document = strict.loads(report.to_json(**options))
    assert len(document["entries"]) == len(document["metrics"]) == len(report.entries)
    assert len(document["run"]["warnings"]) == len(report.warnings)
    found = again(report, **options)
    assert [entry.status for entry in again(report).entries.values()] == [
        entry.status for entry in report.entries.values()
    ]
    assert (found.run is None) == (report.run is None)


@ANYTHING
@given(st.data())
def test_any_json_is_a_report_or_a_value_error(data: st.DataObject) -> None:
    """A document that was spoiled anywhere is read, or refused by a ValueError: never anything else."""
    junk = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | _texts(),
        lambda parts: st.lists(parts, max_size=2) | st.dictionaries(_texts(), parts, max_size=2),
        max_leaves=4,
    )
    document = json.loads(full_report().to_json())
    owner = data.draw(st.sampled_from([found for found in _objects(document) if found]))
    owner[data.draw(st.sampled_from(sorted(owner)))] = data.draw(junk)
    try:
        found = ProcessExecutionReport.from_json(json.dumps(document))
    except ValueError as error:
        assert str(error).startswith(("This is no report", "This report has schema_version"))  # noqa: PT017
    else:
        again(found)


def test_writer_and_reader_share_their_keys() -> None:
    """14.6: the nine of 7.0.4, in its order."""
    assert [field.name for field in fields(TaskReportEntry)][:9] == list(ENTRY_KEYS)
    assert report_json.SCHEMA_VERSION == 1
