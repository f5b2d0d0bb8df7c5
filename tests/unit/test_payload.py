"""What a webhook posts: 7.0.4's keys in their places, new ones beside them, bounded whatever the tasks returned."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from processes import ErrorData, ProcessExecutionReport, ReportContent, TaskReportEntry, TaskStatus
from processes.comms import payload as module
from processes.comms.payload import (
    ARGUMENT_CHARS_MAX,
    ARGUMENTS_MAX,
    DETAILS_BYTES_MAX,
    RESULT_CHARS_MAX,
    bounded_text,
    payload,
)
from processes.redaction import REDACTED
from processes.report import entry_of
from support import reports

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STARTED = datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC)
ERROR = ErrorData(
    "bad", "fail", (1,), {"k": 2}, ["later"], "wrong", "Traceback ...", {"x": "1"}, "f.py:3", "ValueError"
)

OK = TaskReportEntry(
    "ok", "func", ("a",), {"k": 2}, TaskStatus.SUCCESS, 1.5, 2, {"b": 1, "a": (2,)}, None, STARTED, NOW
)
BAD = TaskReportEntry("bad", "fail", (1,), {"k": 2}, TaskStatus.ERRORED, 0.5, 3, None, ERROR)
LATER = TaskReportEntry("later", "late", (), {}, TaskStatus.SKIPPED, 0.0, 0, why="it depends on 'bad', which failed")
REPORT = ProcessExecutionReport({"ok": OK, "bad": BAD, "later": LATER}, "nightly")


def told(report: ProcessExecutionReport = REPORT, *, errors_only: bool = False, **content: bool) -> dict[str, Any]:
    """The payload, as a receiver has it."""
    text = json.dumps(payload(report, ReportContent(**content), errors_only=errors_only, at=NOW))
    made: dict[str, Any] = json.loads(text)
    return made


def told_of(entry: TaskReportEntry, **content: bool) -> dict[str, Any]:
    """What is told of one entry."""
    made: dict[str, Any] = told(ProcessExecutionReport({"it": entry}), **content)["entries"]["it"]
    return made


def result_text(result: object) -> str:
    made: str = told_of(replace(OK, result=result))["result"]
    return made


def test_payload_of_whole_report() -> None:
    """Every key there is."""
    assert told() == {
        "process_name": "nightly",
        "entries": {
            "ok": {
                "status": "success",
                "function": "func",
                "elapsed_seconds": 1.5,
                "attempts": 2,
                "started_at": "2026-01-02T03:04:00+00:00",
                "ended_at": "2026-01-02T03:04:05+00:00",
                "args": ["'a'"],
                "kwargs": {"k": "2"},
                "result": "{'b': 1, 'a': (2,)}",
            },
            "bad": {
                "status": "errored",
                "function": "fail",
                "elapsed_seconds": 0.5,
                "attempts": 3,
                "args": ["1"],
                "kwargs": {"k": "2"},
                "error": {
                    "exception": "wrong",
                    "exception_type": "ValueError",
                    "downstream_impact": ["later"],
                    "traceback": "Traceback ...",
                    "traced_vars": {"x": "1"},
                    "traced_vars_location": "f.py:3",
                },
            },
            "later": {
                "status": "skipped",
                "function": "late",
                "elapsed_seconds": 0.0,
                "attempts": 0,
                "why": "it depends on 'bad', which failed",
                "args": [],
                "kwargs": {},
            },
        },
        "counts": {"success": 1, "errored": 1, "skipped": 1},
        "skipped": {"later": "it depends on 'bad', which failed"},
        "errors_only": False,
        "timestamp": "2026-01-02T03:04:05+00:00",
        "schema_version": 1,
    }


def test_payload_of_failures_counts_the_rest() -> None:
    """Entries are the failures alone; who was skipped due to them, and why, is still told."""
    made = told(errors_only=True)
    assert list(made["entries"]) == ["bad"]
    assert made["errors_only"] is True
    assert {key: made[key] for key in ("counts", "skipped")} == {key: told()[key] for key in ("counts", "skipped")}
    assert "ok" not in json.dumps(made)


def test_payload_of_empty_report_has_all_keys() -> None:
    """A receiver need not ask whether a key is there."""
    made = told(ProcessExecutionReport())
    assert made.keys() == told().keys()
    assert made["process_name"] == ""
    assert made["counts"] == {"success": 0, "errored": 0, "skipped": 0}


@pytest.mark.parametrize("show_traceback", [False, True])
@pytest.mark.parametrize("show_traced_vars", [False, True])
def test_content_decides_what_is_told_of_a_failure(show_traceback: bool, show_traced_vars: bool) -> None:
    """Traceback and locals are left out separately."""
    error = told_of(BAD, show_traceback=show_traceback, show_traced_vars=show_traced_vars)["error"]
    assert ("traceback" in error) is show_traceback
    assert ("traced_vars" in error, "traced_vars_location" in error) == (show_traced_vars, show_traced_vars)


def test_failure_without_locals_has_no_key_for_them() -> None:
    """As in 7.0.4."""
    error = told_of(replace(BAD, error=replace(ERROR, traced_vars={})))["error"]
    assert not {"traced_vars", "traced_vars_location"} & error.keys()


CYCLE: list[object] = [1]
CYCLE.append({"self": CYCLE})
DEEP: list[object] = []
for _ in range(80):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "result",
    [
        None,
        "it's",
        "both ' and \"",
        b"bytes",
        (),
        (1,),
        (1, 2),
        [],
        {},
        set(),
        {3},
        frozenset(),
        frozenset({"a"}),
        {"b": [1, {"c": (None, 2.5)}], "a": {1: set()}},
        CYCLE,
        DEEP,
        list(range(1_500)),
        np.arange(5),
        np.zeros((1_000, 1_000)),
        "é ☃ \U0001f600",
        TaskStatus.SUCCESS,
    ],
    ids=lambda result: repr(result)[:30],
)
def test_result_is_its_repr(result: object) -> None:
    """To the letter, as in 7.0.4, when it is not longer than the limit."""
    assert len(repr(result)) <= RESULT_CHARS_MAX
    assert result_text(result) == repr(result)


class Fails:
    """Its repr raises what it was made with."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), RecursionError("no")])
def test_result_whose_repr_fails_is_told_as_such(error: BaseException) -> None:
    """Nested or not, and nothing raises."""
    expected = f"<unreprable: {type(error).__name__}: {error}>"
    assert (result_text(Fails(error)), result_text({"in": [Fails(error)]})) == (expected, expected)


def test_interrupt_while_a_result_is_rendered_is_the_users() -> None:
    """Ctrl-C is not taken for a broken repr."""
    with pytest.raises(KeyboardInterrupt):
        result_text(Fails(KeyboardInterrupt()))


def test_result_that_cannot_be_unpickled_is_told_as_such() -> None:
    """A child's result is made when it is read."""

    def fetch(handle: object) -> object:
        raise ModuleNotFoundError("no module named 'gone'")

    call = SimpleNamespace(name="it", func=len, args=(), kwargs={})
    record = reports.recorded(call, fetch, status=TaskStatus.SUCCESS, handle="handle")
    told = told_of(entry_of(record))
    assert told["result"] == "<unreprable: ModuleNotFoundError: no module named 'gone'>"


class Counted:
    """Counts how often it is rendered."""

    rendered = 0

    def __repr__(self) -> str:
        Counted.rendered += 1
        return "<counted>"


# Made by the test, and gone with it: what a module holds is copied by every fork.
@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * 50_000_000,
        lambda: b"x" * 50_000_000,
        lambda: bytearray(50_000_000),
        lambda: [["x" * 1_000] * 50_000] * 1_000,
        lambda: {"k": "x" * 20_000},
    ],
    ids=["str", "bytes", "bytearray", "nested", "value"],
)
def test_large_result_is_cut(make: Callable[[], object]) -> None:
    """At the documented length, saying so; the beginning is that of the repr."""
    text = result_text(make())
    shown, _, note = text.rpartition("... ")
    assert note == f"[cut after {RESULT_CHARS_MAX} characters]"
    assert len(shown) == RESULT_CHARS_MAX
    assert shown.startswith(("'xxx", "b'xxx", r"bytearray(b'\x00", "[['xxx", "{'k': 'xxx"))


def test_what_is_cut_is_never_rendered() -> None:
    """A container of a million is asked for as many as there is room for."""
    Counted.rendered = 0
    result_text([Counted()] * 1_000_000)
    assert 0 < Counted.rendered < RESULT_CHARS_MAX


def test_arguments_are_bounded_in_number_and_length() -> None:
    """The first of each kind are shown, and how many more there are."""
    many = ARGUMENTS_MAX + 7
    made = told_of(replace(OK, args=tuple(range(many)), kwargs={f"k{number}": number for number in range(many)}))
    assert made["args"] == [*map(str, range(ARGUMENTS_MAX)), "<7 more>"]
    assert list(made["kwargs"].items())[-2:] == [(f"k{ARGUMENTS_MAX - 1}", str(ARGUMENTS_MAX - 1)), ("...", "<7 more>")]
    assert len(made["kwargs"]) == ARGUMENTS_MAX + 1
    long = told_of(replace(OK, args=("x" * 50_000,), kwargs={"k": Fails(ValueError())}))
    assert len(long["args"][0]) < ARGUMENT_CHARS_MAX + 50
    assert long["kwargs"] == {"k": "<unreprable: ValueError: >"}


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "api_key", "apikey", "access_token", "tokens", "dsn", "private_key", "cookies"]
)
def test_argument_under_a_secret_name_is_not_told(name: str) -> None:
    """Nor a local variable: the payload leaves the machine."""
    made = told_of(replace(BAD, kwargs={name: "hunter2"}, error=replace(ERROR, traced_vars={name: "'hunter2'"})))
    assert made["kwargs"] == {name: REDACTED}
    assert made["error"]["traced_vars"] == {name: REDACTED}


@pytest.mark.parametrize("name", ["tokenizer", "secretary", "passwordless", "key", "dsname"])
def test_argument_under_a_name_that_only_looks_alike_is_told(name: str) -> None:
    """A part of a word is none."""
    assert told_of(replace(OK, kwargs={name: 1}))["kwargs"] == {name: "1"}


def test_password_of_a_url_is_not_told() -> None:
    """Whatever the argument is called."""
    url = "postgres://me:hunter2@db.example/etl"
    harmless = "http://db.example:80/etl?to=me@db.example"
    made = told_of(replace(OK, args=(url, harmless), kwargs={"db": url}))
    expected = f"'postgres://me:{REDACTED}@db.example/etl'"
    assert (made["args"], made["kwargs"]) == ([expected, repr(harmless)], {"db": expected})


def test_details_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """When room runs out the facts remain, and failures had theirs first."""
    monkeypatch.setattr(module, "DETAILS_BYTES_MAX", 5_000)
    entries = {f"ok{number}": replace(OK, result="x" * 1_000) for number in range(10)}
    bad = replace(BAD, error=replace(ERROR, exception="e" * 2_000))
    made = told(ProcessExecutionReport({**entries, "bad": bad}))["entries"]
    assert list(made) == [*entries, "bad"]
    assert len(made["bad"]["error"]["exception"]) == 2_000
    left_out = [name for name, entry in made.items() if entry.get("details_left_out")]
    assert left_out == [f"ok{number}" for number in range(2, 10)]
    assert all("result" not in made[name] and made[name]["status"] == "success" for name in left_out)
    assert all("result" in made[name] for name in made if name not in left_out and name != "bad")


def test_failure_without_room_still_tells_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its type, and the beginning and the end of its text."""
    monkeypatch.setattr(module, "DETAILS_BYTES_MAX", 0)
    made = told_of(replace(BAD, error=replace(ERROR, exception="a" + "e" * 2_000 + "z")))
    assert made["details_left_out"] is True
    assert made["error"].keys() == {"exception", "exception_type"}
    assert (made["error"]["exception"][0], made["error"]["exception"][-1]) == ("a", "z")
    assert len(made["error"]["exception"]) < 1_100


def test_huge_report_stays_small_enough_to_send() -> None:
    """Three hundred failures with all that a failure can hold."""
    error = replace(ERROR, traceback_str="\u2603" * 100_000, traced_vars={str(n): "x" * 2_000 for n in range(100)})
    report = ProcessExecutionReport({f"t{number}": replace(BAD, error=error) for number in range(300)})
    assert DETAILS_BYTES_MAX / 2 < len(json.dumps(told(report))) < DETAILS_BYTES_MAX + 300 * 500


def test_hand_made_failure_is_bounded() -> None:
    """What a capture would have cut is cut here."""
    error = replace(ERROR, exception="e" * 10**6, traceback_str="t" * 10**6, traced_vars={"x": "v" * 10**6})
    made = told_of(replace(BAD, error=error))["error"]
    assert len(json.dumps(made)) < 210_000


def test_bounded_text_keeps_what_just_fits() -> None:
    """The limit itself is allowed."""
    assert bounded_text(iter(["ab", "c"]), 3) == "abc"
    assert bounded_text(iter(["ab", "cd"]), 3) == "abc... [cut after 3 characters]"
