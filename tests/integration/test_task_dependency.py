"""TaskDependency: what it keeps and refuses, and when two are the same."""

import warnings
from typing import Any

import pytest

from processes import TaskDependency


def test_dependency_keeps_its_parts() -> None:
    """Four attributes of the parameters' names; the task's name in lower case."""
    made = TaskDependency("Fetch", True, True, "rows")
    assert made.task_name == "fetch"
    assert made.use_result_as_additional_args is True
    assert made.use_result_as_additional_kwargs is True
    assert made.additional_kwarg_name == "rows"


def test_dependency_has_defaults() -> None:
    """A name alone only orders."""
    made = TaskDependency("a")
    assert (made.use_result_as_additional_args, made.use_result_as_additional_kwargs) == (False, False)
    assert made.additional_kwarg_name == ""


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((1,), "task_name must be of type str. Got <class 'int'>"),
        (("a", 1), "use_result_as_additional_args must be of type bool. Got <class 'int'>"),
        (("a", False, 1), "use_result_as_additional_kwargs must be of type bool. Got <class 'int'>"),
        *(
            (
                ("a", False, True, name),
                "If use_result_as_additional_kwargs is True, additional_kwarg_name must be a non-empty string.",
            )
            for name in ("", None, 5)
        ),
    ],
)
def test_dependency_refuses_wrong_types(parts: tuple[Any, ...], message: str) -> None:
    """F4 too: a keyword result needs a name that is a string."""
    with pytest.raises(TypeError) as caught:
        TaskDependency(*parts)
    assert str(caught.value) == message


def test_dependency_warns_of_a_name_without_its_flag() -> None:
    """F5: the name alone has no effect, and says so at the caller's line."""
    with pytest.warns(UserWarning, match="additional_kwarg_name='x' has no effect") as caught:
        TaskDependency("a", additional_kwarg_name="x")
    assert caught[0].filename == __file__


def test_dependency_with_flag_and_name_does_not_warn() -> None:
    """The name with its flag is fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TaskDependency("a", False, True, "x")


def test_dependency_name_can_be_assigned() -> None:
    """Its name is a plain attribute."""
    made = TaskDependency("a")
    made.task_name = "b"
    assert made.task_name == "b"


def test_dependencies_that_say_the_same_are_equal() -> None:
    """3.3, F4: equal parts make equal dependencies; the hash is that of the name."""
    assert hash(TaskDependency("A", True)) == hash("a")
    assert TaskDependency("A", True) == TaskDependency("a", True)
    assert len({TaskDependency("a"), TaskDependency("A")}) == 1
    assert TaskDependency("a") != TaskDependency("a", True)
    assert TaskDependency("a") != TaskDependency("b")
    assert TaskDependency("a") != "a"


def test_dependency_shows_its_parts() -> None:
    """Its repr has the name and the use."""
    assert repr(TaskDependency("A", True)) == "TaskDependency('a', True, False, '')"
