"""The report of real runs: its entries, its JSON, and that it outlives the run."""

import dataclasses
import datetime as dt
import json
import os
import pickle
import platform
from typing import Any

import pytest

from processes import (
    AttemptRecord,
    ErrorData,
    Process,
    ProcessExecutionReport,
    ProcessPool,
    RunInfo,
    Task,
    TaskDependency,
    TaskReportEntry,
    TaskStatus,
    Usage,
    WorkerStartError,
    __version__,
)
from support import strict

ENTRY_KEYS = ["name", "function", "args", "kwargs", "status", "elapsed_seconds", "attempts", "result", "error"]
ERROR_KEYS = [
    "task_name",
    "function",
    "args",
    "kwargs",
    "downstream_impact",
    "exception",
    "traceback_str",
    "traced_vars",
    "traced_vars_location",
]


def compute(*args: object, **kwargs: object) -> dict[str, object]:
    return {"args": args, "kwargs": kwargs}


def fail() -> None:
    raise ValueError("no such luck")


def burn(seconds: float) -> int:
    import time

    until = time.process_time() + seconds
    rounds = 0
    while time.process_time() < until:
        rounds += 1
    return rounds


def grow(size: int) -> bytes:
    return b"x" * size


def load_in(pid: int) -> str:
    if os.getpid() != pid:
        raise ValueError("not in this process")
    return "loaded"


class Homebound:
    """Can be loaded where it was made, nowhere else."""

    def __reduce__(self) -> tuple[object, ...]:
        return load_in, (os.getpid(),)


def homebound() -> Homebound:
    return Homebound()


def mixed() -> Process:
    """A process with a success, a failure, a skipped task and one more success, not in this order."""
    return Process(
        [
            Task("skipped", len, dependencies=[TaskDependency("bad"), TaskDependency("good")]),
            Task("good", compute, args=(1,), kwargs={"x": {2}}),
            Task("bad", fail),
            Task("last", compute, dependencies=[TaskDependency("good", True)]),
        ],
        "Nightly",
    )


@pytest.fixture
def report(mode: str | None) -> ProcessExecutionReport:
    """Of a run in each mode."""
    return mixed().run(mode)


# ---- entries --------------------------------------------------------------------------------------------------------


def test_report_has_an_entry_for_each_task_in_order(report: ProcessExecutionReport) -> None:
    """Entries come in the order of the process, under the tasks' names; the views keep it."""
    assert list(report.entries) == ["good", "bad", "last", "skipped"]
    assert [entry.name for entry in report.entries.values()] == list(report.entries)
    assert report.process_name == "Nightly"
    assert list(report.successes) == ["good", "last"]
    assert list(report.errored) == ["bad"]
    assert list(report.skipped) == ["skipped"]
    assert report.warnings == ()


def test_report_has_keys_in_lower_case(mode: str | None) -> None:
    """0.6, 2.1: names are compared by casefold, and kept in lower case."""
    tasks = [Task("Fetch", int), Task("Straße", int, dependencies=[TaskDependency("FETCH")])]
    tasks.append(Task("Last", int, dependencies=[TaskDependency("STRASSE")]))
    report = Process(tasks).run(mode)
    assert list(report.entries) == ["fetch", "straße", "last"]
    assert list(json.loads(report.to_json())["entries"]) == list(report.entries)


def test_report_entry_has_the_tasks_own_arguments(mode: str | None) -> None:
    """`args` and `kwargs` are the objects that the Task has."""
    args, kwargs = ([1],), {"x": [2]}
    entry = Process([Task("a", compute, None, args, kwargs)]).run(mode).entries["a"]
    assert entry.args is args
    assert entry.kwargs is kwargs


def test_report_says_when_a_task_ran(mode: str | None) -> None:
    """Instants have a time zone, lie within the run, and follow the order of dependencies."""
    before = dt.datetime.now(dt.UTC)
    entries = mixed().run(mode).entries
    after = dt.datetime.now(dt.UTC)
    margin = dt.timedelta(milliseconds=50)  # two clocks are read one after the other
    for entry in (entries["good"], entries["bad"], entries["last"]):
        assert entry.started_at is not None
        assert entry.ended_at is not None
        assert entry.started_at.utcoffset() == dt.timedelta(0)
        assert before - margin <= entry.started_at <= entry.ended_at <= after + margin
        assert (entry.ended_at - entry.started_at).total_seconds() == pytest.approx(entry.elapsed_seconds, abs=1e-4)
    assert entries["good"].ended_at is not None
    assert entries["last"].started_at is not None
    assert entries["good"].ended_at <= entries["last"].started_at
    assert (entries["skipped"].started_at, entries["skipped"].ended_at) == (None, None)


def test_report_says_what_an_attempt_used(mode: str | None) -> None:
    """CPU time in every mode; process id and memory where a child made the attempt."""
    entry = Process([Task("a", burn, args=(0.05,))]).run(mode).entries["a"]
    usage = entry.usage
    assert usage is not None
    assert usage.cpu_user is not None
    assert usage.cpu_system is not None
    assert 0.04 <= usage.cpu_user + usage.cpu_system < 10
    assert entry.attempt_log == (AttemptRecord(1, "success", entry.elapsed_seconds, "", entry.worker_pid, usage),)
    if mode == "processes":
        assert entry.worker_pid not in (None, os.getpid())
        assert usage.peak_memory is not None
        assert usage.peak_memory > 2**20
        assert usage.peak_source == "VmHWM"
    else:
        assert entry.worker_pid is None
        assert (usage.peak_memory, usage.memory_growth, usage.peak_source) == (None, None, None)


def test_report_says_how_much_memory_a_child_took() -> None:
    """The peak of an attempt that held 64 MiB is that much above the one before it."""
    tasks = [
        Task("small", len, args=("1",)),
        Task("large", grow, args=(64 * 2**20,), dependencies=[TaskDependency("small")], keep_result=False),
    ]
    entries = Process(tasks).run("processes", 1).entries
    small, large = entries["small"].usage, entries["large"].usage
    assert small is not None
    assert large is not None
    assert small.peak_memory is not None
    assert large.peak_memory is not None
    assert large.peak_memory - small.peak_memory >= 60 * 2**20


def test_report_says_what_a_failed_attempt_used(mode: str | None) -> None:
    """A failure has its usage as well."""
    entry = Process([Task("a", fail)]).run(mode).entries["a"]
    assert entry.usage is not None
    assert entry.usage.cpu_user is not None
    [record] = entry.attempt_log
    assert (record.outcome, record.why, record.usage) == ("ValueError", "no such luck", entry.usage)


def test_report_of_an_earlier_run_stays_as_it_was(mode: str | None) -> None:
    """A later run does not change it."""
    process = mixed()
    first = process.run(mode)
    before = dataclasses.replace(first.entries["good"])
    process.run(mode)
    assert first.entries["good"] == before


# ---- by value -------------------------------------------------------------------------------------------------------


def test_report_entry_equals_one_built_by_hand(report: ProcessExecutionReport) -> None:
    """An entry of a run is the value that its fields say, read or not."""
    for entry in report.entries.values():
        copy = dataclasses.replace(entry)
        fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
        assert TaskReportEntry(**fields) == entry == copy
        assert dataclasses.replace(copy, attempts=17) != entry
        assert {"a": 1, **dataclasses.asdict(entry)}["result"] == entry.result


def test_report_entry_takes_the_seven_old_keywords() -> None:
    """19.7: new fields have defaults."""
    entry = TaskReportEntry(
        name="a", function="f", args=(), kwargs={}, status=TaskStatus.SUCCESS, elapsed_seconds=0.0, attempts=1
    )
    assert ProcessExecutionReport({"a": entry}).successes == {"a": entry}
    assert (entry.result, entry.error, entry.usage, entry.attempt_log, entry.why) == (None, None, None, (), "")


def test_report_entry_is_frozen(report: ProcessExecutionReport) -> None:
    """No field of an entry of a run can be set, `result` neither."""
    entry: Any = report.entries["good"]
    for name in ("result", "status", "why"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(entry, name, 1)
    assert entry.result == {"args": (1,), "kwargs": {"x": {2}}}


@pytest.mark.parametrize("read_before", [False, True])
def test_report_survives_pickling(mode: str | None, read_before: bool) -> None:
    """14.8: also where a child's result was not read yet."""
    report = mixed().run(mode)
    if read_before:
        assert report.entries["good"].result
    copy = pickle.loads(pickle.dumps(report))
    assert copy == report
    assert copy.entries["last"].result == {"args": ({"args": (1,), "kwargs": {"x": {2}}},), "kwargs": {}}


def test_report_reads_a_result_once(mode: str | None) -> None:
    """What is read twice is one object."""
    entry = Process([Task("a", grow, args=(2**20,))]).run(mode).entries["a"]
    first = entry.result
    assert first == b"x" * 2**20
    assert entry.result is first


def test_report_from_results_is_that_of_the_run(mode: str | None) -> None:
    """14.4: built from a runner's results, it has the nine old fields of the report."""
    process = mixed()
    report = process.run(mode)
    built = ProcessExecutionReport.from_results(process, process.runner.results)
    assert list(built.entries) == list(report.entries)
    assert built.process_name == "Nightly"
    for name, entry in built.entries.items():
        for key in ENTRY_KEYS:
            assert getattr(entry, key) == getattr(report.entries[name], key), (name, key)


# ---- to_json --------------------------------------------------------------------------------------------------------


def test_json_of_an_entry_has_nine_keys(report: ProcessExecutionReport) -> None:
    """14.6: exactly these, in this order, whatever the status; `error` has nine as well, or is null."""
    document = json.loads(report.to_json())
    assert list(document["entries"]) == ["good", "bad", "last", "skipped"]
    assert document["process_name"] == "Nightly"
    for name, entry in document["entries"].items():
        assert list(entry) == ENTRY_KEYS
        assert entry["status"] == report.entries[name].status.value
        if name == "bad":
            assert list(entry["error"]) == ERROR_KEYS
        else:
            assert entry["error"] is None


def test_json_of_values_is_plain(report: ProcessExecutionReport) -> None:
    """14.7: tuples and sets are lists."""
    good = json.loads(report.to_json())["entries"]["good"]
    assert (good["args"], good["kwargs"]) == ([1], {"x": [2]})
    assert good["result"] == {"args": [1], "kwargs": {"x": [2]}}


def test_json_has_new_data_beside_the_entries(report: ProcessExecutionReport, mode: str | None) -> None:
    """0.8: metrics, further facts of failures, and the version of all this."""
    document = json.loads(report.to_json())
    assert document["schema_version"] == 1
    assert document["failures"]["bad"]["exception_type"] == "ValueError"
    assert list(document["metrics"]) == list(report.entries)
    metrics = document["metrics"]["good"]
    started_at = report.entries["good"].started_at
    assert started_at is not None
    assert dt.datetime.fromisoformat(metrics["started_at"]) == started_at
    assert metrics["worker_pid"] == report.entries["good"].worker_pid
    assert set(metrics["usage"]) == {field.name for field in dataclasses.fields(Usage)}
    assert [record["outcome"] for record in metrics["attempt_log"]] == ["success"]
    assert document["metrics"]["skipped"]["why"] == "it depends on 'bad', which failed"


def test_json_takes_the_options_of_dumps(report: ProcessExecutionReport) -> None:
    """14.6: one line by default; `indent`, `sort_keys` and others are passed on, `default` is ignored."""
    assert "\n" not in report.to_json()
    assert ": " in report.to_json()
    assert report.to_json(indent=2).startswith('{\n  "entries": {\n')
    assert json.loads(report.to_json(indent=2)) == json.loads(report.to_json())
    assert list(json.loads(report.to_json(sort_keys=True))["entries"]) == ["bad", "good", "last", "skipped"]
    assert report.to_json(default=lambda value: 1 / 0) == report.to_json()
    assert report.to_json(separators=(",", ":")).startswith('{"entries":{"good":{"name":"good",')


def test_json_of_odd_results_is_their_text(mode: str | None) -> None:
    """14.7: what JSON has no type for comes as text; bytes are read as UTF-8."""
    tasks = [
        Task("bytes", compute, args=(b"a\xff",)),
        Task("complex", complex, args=(1, 2)),
        Task("error", ErrorData, args=("x",)),
        Task("keys", dict, args=([((1, 2), 3)],)),
        Task("status", TaskStatus, args=("skipped",)),
    ]
    entries = json.loads(Process(tasks).run(mode).to_json())["entries"]
    assert entries["bytes"]["args"] == ["a\ufffd"]
    assert entries["complex"]["result"] == "(1+2j)"
    assert entries["error"]["result"]["task_name"] == "x"
    assert entries["keys"]["result"] == {"(1, 2)": 3}
    assert entries["status"]["result"] == "skipped"


def test_json_tells_of_the_run(report: ProcessExecutionReport, mode: str | None) -> None:
    """0.8: `run` beside `entries`: its fields, and the warnings."""
    run = json.loads(report.to_json())["run"]
    assert set(run) == {field.name for field in dataclasses.fields(RunInfo)} | {"warnings"}
    assert (run["mode"], run["version"], run["warnings"]) == (mode or "sequential", __version__, [])


def test_json_is_read_back_and_written_the_same(report: ProcessExecutionReport) -> None:
    """Of a run in each mode; where JSON has all its values, the entries are equal."""
    text = report.to_json()
    again = ProcessExecutionReport.from_json(text)
    assert again.to_json() == text
    assert (again.run, again.process_name, list(again.entries)) == (report.run, "Nightly", list(report.entries))
    assert again.errored == report.errored
    assert again.skipped == report.skipped
    assert [list(found) for found in (again.successes, again.errored, again.skipped)] == [
        ["good", "last"],
        ["bad"],
        ["skipped"],
    ]


def test_json_of_a_result_that_cannot_be_loaded_says_so() -> None:
    """D1: whoever reads the entry gets the error, the report goes on."""
    report = Process([Task("bad", homebound), Task("good", len, args=("1",))]).run("processes", 1)
    with pytest.raises(ValueError, match="not in this process"):
        _ = report.entries["bad"].result
    entries = strict.loads(report.to_json())["entries"]
    assert entries["bad"]["result"].startswith("<result cannot be read: ValueError: ")
    assert entries["good"]["result"] == 1


# ---- the run as a whole ---------------------------------------------------------------------------------------------


def test_report_says_when_where_and_how_it_was_run(mode: str | None) -> None:
    """The run spans its tasks."""
    report = mixed().run(mode, 2)
    run = report.run
    assert run is not None
    assert (run.mode, run.max_workers) == (mode or "sequential", 1 if mode is None else 2)
    assert run.start_method == ("forkserver" if mode == "processes" else "")
    assert (run.python, run.version, run.broken) == (platform.python_version(), __version__, "")
    assert run.started_at is not None
    assert run.ended_at is not None
    assert run.seconds == pytest.approx((run.ended_at - run.started_at).total_seconds(), abs=1e-5)
    for entry in (report.entries["good"], report.entries["last"]):
        assert entry.started_at is not None
        assert entry.ended_at is not None
        margin = dt.timedelta(milliseconds=50)  # two clocks are read one after the other
        assert run.started_at - margin <= entry.started_at <= entry.ended_at <= run.ended_at + margin


def test_report_says_what_a_pool_was_told() -> None:
    """Its own number of workers and start method."""
    run = Process([Task("a", int)]).run(ProcessPool(3, start_method="spawn")).run
    assert run is not None
    assert (run.mode, run.max_workers, run.start_method) == ("processes", 3, "spawn")


def test_report_says_why_a_run_broke_off() -> None:
    """As the error that the run raised."""
    with pytest.raises(WorkerStartError) as caught:
        Process([Task("a", int)]).run(ProcessPool(1, initializer=fail))
    report = caught.value.report
    assert isinstance(report, ProcessExecutionReport)
    assert report.run is not None
    assert report.run.broken.startswith("WorkerStartError: ")


# ---- with another report --------------------------------------------------------------------------------------------


def test_report_takes_in_a_second_run_of_what_had_failed(mode: str | None) -> None:
    """Merged and compared, from their texts as well."""
    first = mixed().run(mode)
    second = Process([Task("bad", int), Task("skipped", int, dependencies=[TaskDependency("bad")])]).run(mode)
    merged = first.merge(second, keep="last")
    assert list(merged.entries) == ["good", "bad", "last", "skipped"]
    assert merged.successes == merged.entries
    compared = merged.compare(first)
    assert (compared.fixed, compared.newly_failed, compared.new, compared.gone) == (("bad", "skipped"), (), (), ())
    texts = [ProcessExecutionReport.from_json(report.to_json()) for report in (merged, first)]
    assert texts[0].compare(texts[1]) == compared
