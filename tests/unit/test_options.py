"""The options of a pool: checked when they are given, equal by value, and never changed."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from processes import ProcessPool
from processes.backends.options import with_workers

ALL: dict[str, Any] = {
    "max_workers": 3,
    "start_method": "spawn",
    "max_tasks_per_child": 10,
    "initializer": print,
    "initargs": (["a list"], 2),
    "memory_budget": 2**30,
}


@pytest.mark.parametrize("made_again", [copy.copy, copy.deepcopy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_pool_is_equal_to_a_copy(made_again: Callable[[ProcessPool], ProcessPool]) -> None:
    """Of either kind, and hashes as it."""
    pool = ProcessPool(**ALL)
    again = made_again(pool)
    assert (again, hash(again), vars(again)) == (pool, hash(pool), ALL)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("max_workers", 4),
        ("start_method", "fork"),
        ("max_tasks_per_child", None),
        ("initializer", repr),
        ("initargs", ()),
        ("memory_budget", "2GiB"),
    ],
)
def test_pool_differs_in_any_option(name: str, other: object) -> None:
    """One is enough."""
    assert ProcessPool(**ALL | {name: other}) != ProcessPool(**ALL)


def test_pool_is_equal_to_nothing_else() -> None:
    """Whatever is in it."""
    assert ProcessPool(2) != (2, None, None, None, (), None)
    assert ProcessPool(2) != "ProcessPool(2)"


@pytest.mark.parametrize("name", [*ALL, "max_worker"])
def test_pool_cannot_be_changed(name: str) -> None:
    """A run may be using it; nor can it be given what it has not."""
    pool = ProcessPool(**ALL)
    with pytest.raises(AttributeError, match=f"'{name}' of a ProcessPool cannot be changed"):
        setattr(pool, name, 1)
    with pytest.raises(AttributeError, match=f"'{name}' of a ProcessPool cannot be changed"):
        delattr(pool, name)
    assert vars(pool) == ALL


def test_pool_says_how_it_was_made() -> None:
    """As a call that makes an equal one."""
    pool = ProcessPool(2, start_method="spawn", memory_budget="1MiB")
    assert repr(pool) == (
        "ProcessPool(max_workers=2, start_method='spawn', max_tasks_per_child=None, initializer=None, initargs=(), "
        "memory_budget=1048576)"
    )


def test_pool_for_so_many_workers_is_otherwise_the_same() -> None:
    """Where it does not say itself how many."""
    pool = ProcessPool(**ALL | {"max_workers": None})
    assert with_workers(pool, None) is pool
    assert with_workers(pool, 3) == ProcessPool(**ALL)
    assert with_workers(ProcessPool(**ALL), 3) == ProcessPool(**ALL)
    with pytest.raises(ValueError, match=r"max_workers=2 contradicts ProcessPool\(max_workers=3\)"):
        with_workers(ProcessPool(**ALL), 2)
