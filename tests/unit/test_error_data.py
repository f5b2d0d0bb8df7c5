"""ErrorData: what a program of 7.0.4 may build and read by position, and what is new behind it."""

import dataclasses
import pickle

import pytest

from processes.error_data import CONTEXT_FIELDS, ErrorData

OLD_DEFAULTS = {
    "task_name": "?",
    "function": "?",
    "args": (),
    "kwargs": {},
    "downstream_impact": [],
    "exception": "",
    "traceback_str": "",
    "traced_vars": {},
    "traced_vars_location": "",
}


def test_error_data_has_the_nine_fields_of_old_first() -> None:
    """5.1: their order and defaults; whatever is new comes after, with a default."""
    parts = dataclasses.fields(ErrorData)
    assert [part.name for part in parts[:9]] == list(OLD_DEFAULTS)
    made = ErrorData()
    assert {name: getattr(made, name) for name in OLD_DEFAULTS} == OLD_DEFAULTS


def test_error_data_does_not_share_its_defaults() -> None:
    """Two made without arguments have dicts and lists of their own."""
    first, second = ErrorData(), ErrorData()
    first.kwargs["k"] = 1
    first.downstream_impact.append("b")
    first.traced_vars["x"] = "1"
    assert second == ErrorData()


def test_error_data_is_frozen_and_slotted() -> None:
    """5.1: a failure cannot be changed, and nothing can be added to it."""
    made = ErrorData("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.task_name = "b"  # type: ignore[misc]
    assert not hasattr(made, "__dict__")


def test_error_data_is_by_value_and_survives_pickling() -> None:
    """Equal fields make equal data, also after a trip."""
    made = ErrorData("a", "f", (1,), {"k": 2}, ["b"], "wrong", "Traceback", {"x": "1"}, "f.py:3")
    assert made == dataclasses.replace(made) == pickle.loads(pickle.dumps(made))
    assert made != dataclasses.replace(made, exception="other")


def test_error_data_context_is_a_plain_dict_of_the_nine() -> None:
    """19.1: what a log record carries has these keys and no other, in this order."""
    made = ErrorData("a", "f", (1,), {"k": 2}, ["b"], "wrong", "Traceback", {"x": "1"}, "f.py:3", "ValueError")
    assert list(CONTEXT_FIELDS) == list(OLD_DEFAULTS)
    assert type(made.context()) is dict
    assert list(made.context().items()) == list(
        zip(
            OLD_DEFAULTS,
            ("a", "f", (1,), {"k": 2}, ["b"], "wrong", "Traceback", {"x": "1"}, "f.py:3"),
            strict=True,
        )
    )
