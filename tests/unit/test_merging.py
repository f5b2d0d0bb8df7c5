"""Several reports as one."""

from dataclasses import replace
from typing import Any

import pytest

from processes.report import ProcessExecutionReport
from processes.run_info import RunInfo
from support import reports


def of(*names: str, **changes: Any) -> ProcessExecutionReport:  # noqa: ANN401  any field of the report
    """A report of tasks that succeeded."""
    made = ProcessExecutionReport({name: reports.succeeded(name) for name in names})
    return replace(made, **changes)


def test_merged_report_has_all_entries_in_order() -> None:
    """And the reports themselves stay as they are."""
    first, second = of("b", "a"), of("c")
    merged = first.merge(second, of("d"), of())
    assert list(merged.entries) == ["b", "a", "c", "d"]
    assert merged.entries["c"] is second.entries["c"]
    assert (list(first.entries), list(second.entries)) == (["b", "a"], ["c"])


def test_merged_report_has_all_warnings_and_the_first_name() -> None:
    """A warning that stands twice was given twice; a report without a name lends none."""
    merged = of(warnings=("x",)).merge(of(process_name="nightly", warnings=("x", "y")), of(process_name="other"))
    assert (merged.process_name, merged.warnings) == ("nightly", ("x", "x", "y"))


def test_merged_report_tells_of_its_runs_together() -> None:
    """As far as they are known."""
    first, second = RunInfo(seconds=1.0, host="a"), RunInfo(seconds=2.0, host="a", mode="threads")
    assert of(run=first).merge(of(run=second), of()).run == RunInfo(seconds=3.0, host="a")
    assert of().merge(of()).run is None


def test_merged_report_of_one_is_equal_to_it() -> None:
    """Nothing is added."""
    assert reports.report().merge() == reports.report()
    assert ProcessExecutionReport().merge(reports.report()) == reports.report()


def test_clash_is_refused_with_the_names() -> None:
    """In any case of letters, each once, and before anything else."""
    with pytest.raises(
        ValueError, match="has the task 'A', 'b'\\. Say which entry to keep: keep='first', or keep='last'"
    ):
        of("a", "b", "c").merge(of("A", "b", "d"), of("b"))


def test_clash_of_many_names_lists_some() -> None:
    """And the number of the others."""
    names = [f"t{number}" for number in range(25)]
    with pytest.raises(ValueError, match="'t19' and 5 more\\. Say"):
        of(*names).merge(of(*names))


@pytest.mark.parametrize(("keep", "place"), [("first", 0), ("last", -1)])
def test_clash_is_decided_by_keep(keep: str, place: int) -> None:
    """The one entry stands where the first stood; the usual case is a second run of what had failed."""
    runs = [
        ProcessExecutionReport({"load": reports.failed(), "last": reports.skipped("last")}),
        ProcessExecutionReport({"LOAD": reports.succeeded("LOAD")}),
    ]
    merged = runs[0].merge(runs[1], keep=keep)
    name, entry = next(iter(runs[place].entries.items()))
    assert list(merged.entries.items()) == [(name, entry), ("last", reports.skipped("last"))]


def test_merge_refuses_what_it_does_not_know() -> None:
    """What is no report, and another word for `keep`."""
    with pytest.raises(TypeError, match="other must be ProcessExecutionReport"):
        of("a").merge({"b": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keep must be None, 'first' or 'last', got 'both'"):
        of("a").merge(of("b"), keep="both")
