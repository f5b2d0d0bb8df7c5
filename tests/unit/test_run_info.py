"""What is known of a run as a whole."""

import copy
import os
import pickle
import platform
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta

import pytest

import processes
from processes.report import ProcessExecutionReport
from processes.run_info import RunInfo, info_of, together

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def made_here() -> RunInfo:
    """As of a run."""
    return info_of(STARTED, 2.5, "processes", 4, "spawn", "")


def is_filled(info: RunInfo) -> bool:
    """Whether its version has been looked up."""
    try:
        RunInfo.__dict__["version"].__get__(info)
    except AttributeError:
        return False
    return True


def test_info_tells_when_where_and_how() -> None:
    """It ended as long after its start as the clock measured that nobody sets."""
    info = made_here()
    assert (info.started_at, info.ended_at, info.seconds) == (STARTED, STARTED + timedelta(seconds=2.5), 2.5)
    assert (info.mode, info.max_workers, info.start_method, info.broken) == ("processes", 4, "spawn", "")
    assert (info.python, info.host) == (platform.python_version(), os.uname().nodename)
    assert info.platform.split() == [platform.system(), platform.release(), platform.machine()]


def test_info_looks_its_version_up_when_it_is_read() -> None:
    """A run does not wait for it; the value is the package's, and is kept."""
    info = made_here()
    assert not is_filled(info)
    assert info.version == processes.__version__
    assert is_filled(info)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, replace, lambda info: pickle.loads(pickle.dumps(info))])
def test_info_is_a_value(again: object) -> None:
    """Copies are equal, with the version, whether it was read before or not."""
    assert callable(again)
    info = made_here()
    found = again(info)
    assert found == made_here()
    assert is_filled(found)
    assert f"version={processes.__version__!r}" in repr(made_here())
    assert hash(made_here()) == hash(found)


def test_info_is_frozen_and_has_no_other_attributes() -> None:
    """An empty slot is no reason to find whatever is asked for."""
    with pytest.raises(FrozenInstanceError):
        made_here().host = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="'RunInfo' object has no attribute 'hostname'"):
        _ = made_here().hostname  # type: ignore[attr-defined]


def test_info_can_be_built_without_anything() -> None:
    """Then nothing is known."""
    assert [getattr(RunInfo(), field.name) for field in fields(RunInfo)] == [field.default for field in fields(RunInfo)]


def test_runs_together_have_what_they_agree_on() -> None:
    """From the first start to the last end, their seconds in all, and why one broke off."""
    first = replace(made_here(), host="a")
    later = STARTED + timedelta(hours=1)
    second = replace(made_here(), host="b", started_at=later, ended_at=later, seconds=1.0, broken="KeyboardInterrupt: ")
    for runs in ([first, second], [second, None, first]):
        assert together(runs) == replace(first, host="", ended_at=later, seconds=3.5, broken="KeyboardInterrupt: ")


def test_runs_together_of_one_or_none_are_that() -> None:
    """Nothing is lost, nothing made up."""
    assert together([None, made_here()]) == made_here()
    assert together([None, None]) is together([]) is None
    assert together([RunInfo(), RunInfo()]) == RunInfo()


def test_reports_of_different_runs_are_equal_when_the_same_happened() -> None:
    """14.2: as a report that was built by hand equals one of a run."""
    assert ProcessExecutionReport({}, "a", (), made_here()) == ProcessExecutionReport({}, "a")
