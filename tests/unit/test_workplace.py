"""What is looked at is put back, whatever else does not go well. Changes nothing that is not this test's own."""

import os
import resource
from collections.abc import Iterator

import pytest

from processes import watched, workplace
from processes.usage import START_TAKES_S, OwnUsage
from processes.watched import LeftBehindError, Part, out_of_reach
from processes.workplace import Workplace


class Valve(Part):
    """A part whose value is set by the test, and how it is put back."""

    def __init__(self, *, is_rare: bool = False) -> None:
        super().__init__("a valve", lambda: self.value, is_rare=is_rare)
        self.value: object = "shut"
        self.error: Exception | None = None
        self.is_stuck = False

    def mend(self) -> object:
        if self.error is not None:
            raise self.error
        if not self.is_stuck:
            self.value = "shut"
        return "shut"


class Refuses:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        message = "it is nobody's business"
        raise ValueError(message)

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def own_usage() -> Iterator[OwnUsage]:
    own = OwnUsage()
    yield own
    os.close(own.statm)


def place_of(monkeypatch: pytest.MonkeyPatch, own_usage: OwnUsage, *parts: Part) -> Workplace:
    monkeypatch.setattr(workplace, "parts", lambda *_, **__: list(parts))
    monkeypatch.setattr(workplace, "LAZY", {})
    return Workplace(-1, own_usage, is_fork=False)


def test_part_is_put_back_and_stays_so(monkeypatch: pytest.MonkeyPatch, own_usage: OwnUsage) -> None:
    """However often it is changed."""
    valve = Valve()
    place = place_of(monkeypatch, own_usage, valve)
    for value in ("open", Refuses(), "open"):
        valve.value = value
        assert place.put_back(0.0) == ""
        assert valve.value == "shut"


def test_part_is_noted_anew(monkeypatch: pytest.MonkeyPatch, own_usage: OwnUsage) -> None:
    """What holds then is what it is put back to, unless it is fixed."""
    valve, fixed = Valve(), Valve()
    fixed.is_fixed = True
    place = place_of(monkeypatch, own_usage, valve, fixed)
    valve.value = fixed.value = "ajar"
    place.note()
    assert place.put_back(0.0) == ""
    assert (valve.value, fixed.value) == ("ajar", "shut")


def test_rare_part_is_not_looked_at_after_the_shortest_attempts(
    monkeypatch: pytest.MonkeyPatch, own_usage: OwnUsage
) -> None:
    """It is after all others."""
    valve = Valve(is_rare=True)
    place = place_of(monkeypatch, own_usage, valve)
    valve.value = "open"
    assert (place.put_back(START_TAKES_S), valve.value) == ("", "open")
    assert (place.put_back(2 * START_TAKES_S), valve.value) == ("", "shut")


def test_what_cannot_be_put_back_is_told(monkeypatch: pytest.MonkeyPatch, own_usage: OwnUsage) -> None:
    """Each once, and the others are put back all the same."""
    left, closed, again, stuck, broken, last = (Valve() for _ in range(6))
    place = place_of(monkeypatch, own_usage, left, closed, again, stuck, broken, last)
    for valve in (left, closed, again, stuck, broken, last):
        valve.value = "open"
    left.error = LeftBehindError("left water")
    closed.error = again.error = OSError(9, "Bad file descriptor")
    stuck.is_stuck = True
    broken.error = ValueError("rust")
    assert place.put_back(0.0) == (
        "left water and closed descriptors of its child and changed a valve of its child for good "
        "and spoiled a valve of its child (rust)"
    )
    assert last.value == "shut"


def test_high_number_stays_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit is; the old number is free again."""
    for limit in (256, 1024, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        descriptor = os.open(os.devnull, os.O_RDONLY)
        moved = out_of_reach(descriptor)
        assert moved >= (192 if limit == 256 else 960)
        assert not os.get_inheritable(moved)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)
        os.close(moved)


def test_number_stays_where_none_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor can be used all the same."""
    monkeypatch.setattr(watched, "_DESCRIPTORS_MAX", 10**9)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**9, 10**9))
    descriptor = os.open(os.devnull, os.O_RDONLY)
    assert out_of_reach(descriptor) == descriptor
    os.close(descriptor)
