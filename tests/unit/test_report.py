"""A report is plain data by value, also where a field is made when it is first read."""

import copy
import dataclasses
import enum
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from processes.error_data import CONTEXT_FIELDS, ErrorData
from processes.events import TaskStatus
from processes.failure import Failure
from processes.record import AttemptRecord, TaskRecord, Usage
from processes.report import ProcessExecutionReport, TaskReportEntry, TaskResult, entry_of
from processes.report_json import SCHEMA_VERSION
from processes.usage import Measure
from support import reports

#: The fields of 7.0.4, in its order; then ours.
OLD_FIELDS = ["name", "function", "args", "kwargs", "status", "elapsed_seconds", "attempts", "result", "error"]
NEW_FIELDS = ["started_at", "ended_at", "worker_pid", "usage", "attempt_log", "why"]

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENDED = datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC)
USAGES = [
    Usage(2**20, 0, 0.25, 0.0, "VmHWM"),
    Usage(2**21, 4096, 0.5, 0.125, "VmHWM"),
]
LOG = (
    AttemptRecord(1, "ValueError", 0.5, "wrong", 16, USAGES[0]),
    AttemptRecord(2, "success", 1.0, "", 17, USAGES[1]),
)
ERROR = ErrorData(
    "bad", "fail", (1,), {"k": 2}, ["later"], "wrong", "Traceback ...", {"x": "1"}, "f.py:3", "ValueError"
)

#: The same as a run keeps it: instants are of another clock, an hour behind.
ATTEMPTS: list[tuple[Measure, Failure | None]] = [
    (Measure(100.0, 100.5, 16, 0.25, 0.0, 2**20, 0, "VmHWM"), Failure("ValueError", "wrong", "", {}, "")),
    (Measure(101.0, 102.0, 17, 0.5, 0.125, 2**21, 4096, "VmHWM"), None),
]
OFFSET = STARTED.timestamp() - 100.0


def entry(name: str = "ok", **changes: Any) -> TaskReportEntry:  # noqa: ANN401  any field
    """A success, with everything known."""
    made = TaskReportEntry(name, "func", (1, "a"), {"k": [2]}, TaskStatus.SUCCESS, 1.5, 2, {"answer": 42})
    known: dict[str, Any] = {"started_at": STARTED, "ended_at": ENDED, "worker_pid": 17}
    return replace(made, **known | {"usage": USAGES[1], "attempt_log": LOG} | changes)


class Source:
    """Makes a value when it is asked for, and counts how often that is."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.reads = 0

    def fetch(self, handle: object) -> object:
        """Make the value behind a handle."""
        assert handle == "handle"
        self.reads += 1
        return self.value


CALL = SimpleNamespace(name="ok", func=SimpleNamespace(__name__="func"), args=(1, "a"), kwargs={"k": [2]})


def record(
    fetch: Callable[[object], object],
    attempts: Sequence[tuple[Measure, Failure | None]] = ATTEMPTS,
    **changes: Any,  # noqa: ANN401  any field
) -> TaskRecord:
    """What a run left of the task."""
    left: dict[str, Any] = {"status": TaskStatus.SUCCESS, "handle": "handle"}
    return reports.recorded(CALL, fetch, attempts, OFFSET, **left | changes)


def lazy_entry() -> tuple[TaskReportEntry, Source]:
    """The same as `entry()`, of which nothing that costs has been made yet."""
    source = Source({"answer": 42})
    made = entry_of(record(source.fetch))
    return made, source


def failed(name: str = "bad") -> TaskReportEntry:
    """A task that failed."""
    return TaskReportEntry(name, "fail", (1,), {"k": 2}, TaskStatus.ERRORED, 0.5, 1, None, ERROR)


def skipped(name: str = "later") -> TaskReportEntry:
    """A task that never ran."""
    return TaskReportEntry(name, "func", (), {}, TaskStatus.SKIPPED, 0.0, 0, why="it depends on 'bad', which failed")


def report() -> ProcessExecutionReport:
    """One of each."""
    entries = {made.name: made for made in (entry(), failed(), skipped())}
    return ProcessExecutionReport(entries, "nightly", ("a worker was replaced",))


# ---- an entry --------------------------------------------------------------------------------------------------------


def test_entry_keeps_the_order_of_its_fields() -> None:
    """Programs of 7.0.4 build it by position; what is new comes after, with defaults."""
    assert [part.name for part in fields(TaskReportEntry)] == OLD_FIELDS + NEW_FIELDS
    minimal = TaskReportEntry("a", "f", (), {}, TaskStatus.SUCCESS, 0.0, 1)
    defaults = [getattr(minimal, name) for name in OLD_FIELDS[7:] + NEW_FIELDS]
    assert defaults == [None, None, None, None, None, None, (), ""]


@pytest.mark.parametrize("name", ["name", "result", "error", "started_at", "attempt_log"])
def test_entry_is_frozen(name: str) -> None:
    """What happened cannot be changed, and nothing can be added."""
    made = entry()
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, "other")
    with pytest.raises(FrozenInstanceError):
        delattr(made, name)
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        made.other = 1  # type: ignore[attr-defined]
    assert not hasattr(made, "__dict__")


def test_entry_is_equal_by_value() -> None:
    """One from a child equals one built by hand; one difference is enough."""
    assert entry() == entry()
    assert lazy_entry()[0] == entry()
    assert entry() == lazy_entry()[0]
    assert lazy_entry()[0] == lazy_entry()[0]
    assert entry() != entry(result=None)
    assert lazy_entry()[0] != entry(result={"answer": 43})
    assert entry() != entry(why="x")


def test_entry_result_is_made_once_when_it_is_first_read() -> None:
    """Whoever does not read it does not pay for it."""
    made, source = lazy_entry()
    assert (made.name, made.status, made.elapsed_seconds) == ("ok", TaskStatus.SUCCESS, 1.5)
    assert source.reads == 0
    assert made.result == {"answer": 42}
    assert made.result is made.result
    assert source.reads == 1


def test_entry_result_that_cannot_be_made_raises_each_time() -> None:
    """A poisoned result harms its reader only, and is not taken for None later."""

    def explode(handle: object) -> object:
        raise ZeroDivisionError

    made = entry_of(record(explode))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = made.result
    assert made.name == "ok"


def test_entry_replace_loads_and_keeps_the_result() -> None:
    """The copy has the result, not a promise of it."""
    made, source = lazy_entry()
    other = replace(made, name="other")
    assert (other.name, other.result) == ("other", {"answer": 42})
    assert other.result is made.result
    assert source.reads == 1
    assert replace(made, result=5).result == 5


def test_entry_asdict_holds_plain_values() -> None:
    """In the order of the fields; nested ones too."""
    made, _ = lazy_entry()
    plain = asdict(made)
    assert list(plain) == OLD_FIELDS + NEW_FIELDS
    assert plain["result"] == {"answer": 42}
    assert plain["usage"] == asdict(USAGES[1])
    assert plain == asdict(entry())
    assert dataclasses.astuple(lazy_entry()[0]) == dataclasses.astuple(entry())


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_entry_survives_pickling(protocol: int) -> None:
    """With its result, not with where it comes from; so do copies."""
    made = lazy_entry
    for again in (
        pickle.loads(pickle.dumps(made()[0], protocol)),
        copy.copy(made()[0]),
        copy.deepcopy(made()[0]),
    ):
        assert again == entry()
        assert again.result == {"answer": 42}


def test_entry_repr_shows_the_result() -> None:
    """As if it had always been there."""
    assert repr(lazy_entry()[0]) == repr(entry())
    assert "result={'answer': 42}" in repr(entry())


def test_entry_matches_by_position() -> None:
    """A dataclass can be taken apart by `match`."""
    match lazy_entry()[0]:
        case TaskReportEntry("ok", _, _, _, TaskStatus.SUCCESS, result=found):
            assert found == {"answer": 42}
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("name", OLD_FIELDS + NEW_FIELDS)
def test_entry_fields_that_cost_are_made_when_read(name: str) -> None:
    """Each by itself, whichever is read first, and the same object each time."""
    made, _ = lazy_entry()
    assert getattr(made, name) == getattr(entry(), name)
    assert getattr(made, name) is getattr(made, name)


def test_entry_without_a_result_has_none() -> None:
    """A task that failed, or whose result is not kept: there is nothing to fetch."""
    source = Source("never")
    made = entry_of(record(source.fetch, handle=None))
    assert made.result is None
    assert source.reads == 0


def test_entry_of_a_skipped_task_has_no_times() -> None:
    """No attempt was made, so there is nothing to measure, and it tells why."""
    why = "it depends on 'a', which failed"
    made = entry_of(record(Source("never").fetch, handle=None, attempts=(), status=TaskStatus.SKIPPED, why=why))
    assert made == TaskReportEntry(
        "ok", "func", (1, "a"), {"k": [2]}, TaskStatus.SKIPPED, 0.0, 0, why="it depends on 'a', which failed"
    )


# ---- a report --------------------------------------------------------------------------------------------------------


def test_report_is_frozen_and_by_value() -> None:
    """It can be built by hand, by position, and compared."""
    assert [part.name for part in fields(ProcessExecutionReport)][:2] == ["entries", "process_name"]
    assert report() == report()
    assert ProcessExecutionReport({"ok": lazy_entry()[0]}) == ProcessExecutionReport({"ok": entry()})
    assert report() != replace(report(), process_name="other")
    assert (ProcessExecutionReport().entries, ProcessExecutionReport().process_name) == ({}, "")
    with pytest.raises(FrozenInstanceError):
        report().process_name = "other"  # type: ignore[misc]


def test_report_survives_pickling() -> None:
    """With all its entries."""
    made = replace(report(), entries={"ok": lazy_entry()[0], "bad": failed()})
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert asdict(again) == asdict(made)


def test_report_sorts_entries_by_status() -> None:
    """Each a new dict in the order of the entries."""
    entries = [skipped("s1"), failed("e1"), entry("o1"), failed("e2"), entry("o2")]
    made = ProcessExecutionReport({one.name: one for one in entries})
    assert list(made.successes) == ["o1", "o2"]
    assert list(made.errored) == ["e1", "e2"]
    assert list(made.skipped) == ["s1"]
    made.errored.clear()
    assert list(made.errored) == ["e1", "e2"]


class FakeTask:
    """What `from_results` reads of a task."""

    def __init__(self, name: str) -> None:
        self.name, self.func, self.args, self.kwargs = name, len, (1,), {"k": 2}


class FakeProcess:
    """What it reads of a process."""

    name = "by hand"
    tasks = (FakeTask("b"), FakeTask("a"), FakeTask("c"))


def test_report_of_results_follows_the_processs_order() -> None:
    """Results of successes, errors of failures, nothing of what was skipped."""
    results = {
        "a": TaskResult.errored(ValueError("x"), error_data=ERROR, elapsed_seconds=0.5, attempts=3),
        "b": TaskResult.success(42, elapsed_seconds=1.0, attempts=1),
        "c": TaskResult.skipped(),
    }
    made = ProcessExecutionReport.from_results(FakeProcess(), results)
    assert made.process_name == "by hand"
    assert [(key, e.status, e.result, e.error, e.attempts) for key, e in made.entries.items()] == [
        ("b", TaskStatus.SUCCESS, 42, None, 1),
        ("a", TaskStatus.ERRORED, None, ERROR, 3),
        ("c", TaskStatus.SKIPPED, None, None, 0),
    ]
    assert made.entries["b"].function == "len"


def test_result_worked_tells_success_only() -> None:
    """The four ways a task can stand."""
    results = [TaskResult.success(1), TaskResult.pending(), TaskResult.skipped(), TaskResult.errored(ValueError())]
    assert [made.worked for made in results] == [True, False, False, False]
    statuses = [made.status for made in results]
    assert statuses == [TaskStatus.SUCCESS, TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.ERRORED]


def test_result_takes_parts_by_position_and_has_defaults() -> None:
    """4.2: three are needed; all are plain attributes, but for `worked`."""
    error = ValueError("x")
    whole = TaskResult(TaskStatus.ERRORED, None, error, ERROR, 0.5, 3)
    assert (whole.status, whole.result, whole.exception, whole.error_data) == (TaskStatus.ERRORED, None, error, ERROR)
    assert (whole.elapsed_seconds, whole.attempts) == (0.5, 3)
    least = TaskResult(TaskStatus.SUCCESS, 1, None)
    assert (least.error_data, least.elapsed_seconds, least.attempts) == (None, 0.0, 0)
    least.status = TaskStatus.ERRORED
    assert not least.worked
    with pytest.raises(AttributeError):
        least.worked = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        TaskResult(TaskStatus.SUCCESS, 1)  # type: ignore[call-arg]


def parts_of(made: TaskResult) -> tuple[object, ...]:
    return made.status, made.result, made.exception, made.error_data, made.elapsed_seconds, made.attempts


def test_result_is_made_by_what_became_of_the_task() -> None:
    """4.3: what is not given is empty; facts are given by name."""
    error = ValueError("x")
    assert parts_of(TaskResult.pending()) == (TaskStatus.PENDING, None, None, None, 0.0, 0)
    assert parts_of(TaskResult.skipped()) == (TaskStatus.SKIPPED, None, None, None, 0.0, 0)
    assert parts_of(TaskResult.success(1)) == (TaskStatus.SUCCESS, 1, None, None, 0.0, 0)
    assert parts_of(TaskResult.success(1, elapsed_seconds=0.5, attempts=2))[4:] == (0.5, 2)
    assert parts_of(TaskResult.errored(error)) == (TaskStatus.ERRORED, None, error, None, 0.0, 0)
    assert parts_of(TaskResult.errored(error, error_data=ERROR, elapsed_seconds=0.5, attempts=2)) == (
        TaskStatus.ERRORED,
        None,
        error,
        ERROR,
        0.5,
        2,
    )
    with pytest.raises(TypeError):
        TaskResult.success(1, 0.5)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        TaskResult.errored(error, ERROR)  # type: ignore[call-arg]


def test_statuses_have_the_values_of_old() -> None:
    """4.1: these four, by these texts."""
    assert {status.name: status.value for status in TaskStatus} == {
        "PENDING": "pending",
        "SUCCESS": "success",
        "ERRORED": "errored",
        "SKIPPED": "skipped",
    }


# ---- as JSON ---------------------------------------------------------------------------------------------------------


def test_json_entries_have_the_nine_keys_of_old() -> None:
    """No more and no less, in that order; what is new stands beside them."""
    document = json.loads(report().to_json())
    assert {"entries", "process_name", "metrics", "failures", "schema_version"} <= set(document)
    assert document["process_name"] == "nightly"
    assert document["schema_version"] == SCHEMA_VERSION
    assert list(document["entries"]) == ["ok", "bad", "later"]
    assert all(list(found) == OLD_FIELDS for found in document["entries"].values())


def test_json_holds_what_happened() -> None:
    """Values, as far as JSON has them."""
    entries = json.loads(report().to_json())["entries"]
    assert entries["ok"] == {
        "name": "ok",
        "function": "func",
        "args": [1, "a"],
        "kwargs": {"k": [2]},
        "status": "success",
        "elapsed_seconds": 1.5,
        "attempts": 2,
        "result": {"answer": 42},
        "error": None,
    }
    assert [entries["later"][key] for key in ("status", "result", "error")] == ["skipped", None, None]


def test_json_errors_have_the_nine_keys_of_old() -> None:
    """Newer facts of a failure stand in `failures`."""
    document = json.loads(report().to_json())
    error = document["entries"]["bad"]["error"]
    assert list(error) == list(CONTEXT_FIELDS)
    assert len(error) == 9
    assert (error["exception"], error["args"], error["downstream_impact"]) == ("wrong", [1], ["later"])
    assert list(document["failures"]) == ["bad"]
    assert document["failures"]["bad"]["exception_type"] == "ValueError"


def test_json_metrics_are_beside_the_entries() -> None:
    """Times in ISO format, usage, attempts and why, for each task."""
    metrics = json.loads(report().to_json())["metrics"]
    assert list(metrics) == ["ok", "bad", "later"]
    assert metrics["ok"]["started_at"] == STARTED.isoformat()
    assert metrics["ok"]["usage"]["peak_memory"] == 2**21
    assert [made["outcome"] for made in metrics["ok"]["attempt_log"]] == ["ValueError", "success"]
    assert metrics["later"]["why"] == "it depends on 'bad', which failed"
    assert metrics["later"]["started_at"] is None


def test_json_loads_a_lazy_result() -> None:
    """A report of children reads like any other."""
    lazy, plain = (ProcessExecutionReport({"ok": made}) for made in (lazy_entry()[0], entry()))
    assert lazy.to_json() == plain.to_json()


@dataclasses.dataclass
class Pair:
    """A user's dataclass."""

    left: object
    right: object


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TaskStatus.SUCCESS, "success"),
        (Pair(1, (2,)), {"left": 1, "right": [2]}),
        ({3}, [3]),
        (frozenset({3}), [3]),
        ((1, (2, [3])), [1, [2, [3]]]),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "�"),
        (Path("/a"), "PosixPath('/a')"),
        (1 + 2j, "(1+2j)"),
        (Pair, repr(Pair)),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ({(1, 2): "a"}, {"(1, 2)": "a"}),
        ("ü", "ü"),
        (None, None),
        (True, True),
    ],
    ids=repr,
)
def test_json_makes_any_result_plain(value: object, expected: object) -> None:
    """What JSON has no type for comes as its text."""
    text = ProcessExecutionReport({"ok": entry(result=value)}).to_json()
    assert json.loads(text)["entries"]["ok"]["result"] == expected


def test_json_takes_the_options_of_json_dumps() -> None:
    """`indent` and the like are passed on; `default` is ignored, since nothing is left for it."""
    made = ProcessExecutionReport({"ok": entry(result=Path("/ü"))})
    assert "\n" not in made.to_json()
    assert '\n  "entries": {\n' in made.to_json(indent=2)
    assert '"entries": {"ok": {"name": "ok", ' in made.to_json()
    assert made.to_json(sort_keys=True).startswith('{"entries": {"ok": {"args"')
    assert "PosixPath('/ü')" in made.to_json(ensure_ascii=False)
    assert made.to_json(default=lambda value: 1 / 0) == made.to_json()


def test_json_of_an_empty_report_has_its_frame() -> None:
    """Nothing ran."""
    document = json.loads(ProcessExecutionReport().to_json())
    assert (document["entries"], document["process_name"], document["metrics"]) == ({}, "", {})


def test_json_tells_a_value_as_often_as_it_is_met() -> None:
    """D1: what stands twice beside itself is no circle."""
    twice = [1]
    text = ProcessExecutionReport({"ok": entry(result={"a": [twice, twice], "b": twice})}).to_json()
    assert json.loads(text)["entries"]["ok"]["result"] == {"a": [[1], [1]], "b": [1]}


def as_json(value: object, **options: Any) -> Any:  # noqa: ANN401  json's own
    """A result as a strict reader of JSON gets it: no NaN, and no key twice."""

    def refuse(token: str) -> None:
        pytest.fail(f"{token} is no JSON")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs), pairs
        return dict(pairs)

    text = ProcessExecutionReport({"ok": entry(result=value)}).to_json(**options)
    return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)["entries"]["ok"]["result"]


def circle() -> object:
    """A list and a dict that hold each other."""
    made: list[object] = []
    made.append({"back": made})
    return made


def nested(depth: int) -> object:
    """A list in a list, and so on."""
    made: list[object] = []
    for _ in range(depth):
        made = [made]
    return made


class BadRepr:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class BadItems(dict[str, int]):
    """A dict that does not give its items."""

    def items(self) -> Any:  # noqa: ANN401  it gives none
        raise ZeroDivisionError


@dataclasses.dataclass(slots=True)
class Half:
    """A dataclass one of whose fields may be missing."""

    left: int
    right: int = dataclasses.field(init=False)


class Odd(enum.Enum):
    """Values that are nothing plain."""

    PATH = Path("/a")
    PAIR = (1, frozenset({2}))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(circle(), id="circle"),
        pytest.param(nested(100_000), id="deep"),
        pytest.param(BadRepr(), id="repr"),
        pytest.param({BadRepr(): 1}, id="repr of a key"),
        pytest.param(BadItems(a=1), id="items"),
        pytest.param(Half(1), id="field"),
        pytest.param(10**5000, id="int of 5,001 digits"),
    ],
)
def test_json_of_any_value_is_there(value: object) -> None:
    """D1: a value that cannot be written costs itself, not the report."""
    assert as_json([value, "beside"])[1] == "beside"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=repr)
def test_json_of_a_number_that_json_has_not_is_its_text(value: float) -> None:
    """D1: whatever else, the document can be read; with `allow_nan=False` as well."""
    assert as_json([value]) == [repr(value)]
    assert as_json([value], allow_nan=False) == [repr(value)]


@pytest.mark.parametrize(
    "value",
    [{1: "a", "1": "b"}, {None: "a", "null": "b"}, {True: "a", "true": "b"}, {(1,): "a", "(1,)": "b"}],
    ids=repr,
)
def test_json_keeps_entries_whose_keys_read_the_same(value: dict[object, str]) -> None:
    """D1: both values can be read back, under keys of their own."""
    assert sorted(as_json(value).values()) == ["a", "b"]


def test_json_sorts_keys_of_different_types() -> None:
    """D1: `sort_keys` does not make it raise."""
    assert as_json({1: "a", "b": 2}, sort_keys=True) == {"1": "a", "b": 2}


def test_json_of_an_enum_is_its_value_made_plain() -> None:
    """14.7: whatever the value is."""
    assert as_json([Odd.PATH, Odd.PAIR]) == ["PosixPath('/a')", [1, [2]]]


def test_json_of_a_bytearray_is_that_of_bytes() -> None:
    """14.7: as UTF-8."""
    assert as_json(bytearray(b"caf\xc3\xa9")) == "caf\xe9"


def test_json_of_a_result_that_cannot_be_loaded_is_there() -> None:
    """D1: of a poisoned result the report says that it is one."""

    def explode(handle: object) -> object:
        raise ZeroDivisionError

    poisoned = entry_of(record(explode))
    document = json.loads(ProcessExecutionReport({"ok": entry(), "bad": poisoned}).to_json())
    assert document["entries"]["ok"]["result"] == {"answer": 42}
    assert "ZeroDivisionError" in document["entries"]["bad"]["result"]


def test_json_tells_of_the_run_beside_the_entries() -> None:
    """0.8: what concerns no single task."""
    assert json.loads(report().to_json())["run"]["warnings"] == ["a worker was replaced"]
