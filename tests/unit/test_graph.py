"""Tasks come after what they wait for; circles and gaps are named."""

import pickle
from random import Random

import pytest

from processes.exceptions import CircularDependencyError, DependencyNotFoundError
from processes.graph import check_dependencies, dependants_of, key_of, reachable, topological_order


def order(dependencies: dict[str, list[str]]) -> list[str]:
    """The order of tasks whose names are their keys."""
    return topological_order(dependencies, str)


def circle_in(dependencies: dict[str, list[str]]) -> str:
    """The circle that the error shows."""
    names = {key: key.upper() for key in dependencies}
    with pytest.raises(CircularDependencyError) as caught:
        topological_order(dependencies, names.__getitem__)
    before, _, after = str(caught.value).partition("Tasks wait for each other: ")
    assert before == "Circular dependency detected. "
    return after.removesuffix(". Drop one of these dependencies.")


def test_key_of_names_that_differ_in_case_is_the_same() -> None:
    """Names are compared by casefold, which knows more than lower()."""
    assert key_of("STRASSE") == key_of("Straße") == "strasse"


def test_order_begins_with_tasks_that_wait_for_nothing() -> None:
    """They come as given; then each when its last dependency has been placed."""
    assert order({"d": ["b", "c"], "b": ["a"], "c": ["a"], "a": [], "e": []}) == ["a", "e", "b", "c", "d"]


def test_order_without_dependencies_is_as_given() -> None:
    """Nothing is sorted by name."""
    assert order({"z": [], "a": [], "m": []}) == ["z", "a", "m"]


def test_order_of_nothing_is_empty() -> None:
    """A process may have no task."""
    assert order({}) == []


def test_order_takes_a_dependency_named_twice() -> None:
    """It counts once."""
    assert order({"b": ["a", "a"], "a": []}) == ["a", "b"]


def test_order_places_each_task_once_and_after_its_dependencies() -> None:
    """True of random graphs, however they are given."""
    for seed in range(50):
        random = Random(seed)
        names = [f"t{position}" for position in range(random.randint(1, 30))]
        dependencies = {
            name: random.sample(names[:place], min(place, random.randint(0, 3))) for place, name in enumerate(names)
        }
        shuffled = dict(random.sample(sorted(dependencies.items()), len(dependencies)))
        placed = order(shuffled)
        assert sorted(placed) == sorted(names)
        assert all(placed.index(wanted) < placed.index(name) for name, wants in shuffled.items() for wanted in wants)


def test_order_of_a_long_chain_needs_no_recursion() -> None:
    """Depth is no limit: 50,000 tasks in a row, the last one first."""
    count = 50_000
    chain = {str(number): [str(number - 1)] if number else [] for number in reversed(range(count))}
    assert order(chain) == [str(number) for number in range(count)]


def test_cycle_text_shows_the_circle_in_the_direction_of_waiting() -> None:
    """Each name is followed by one that it waits for, the last by the first; names are as written."""
    assert circle_in({"a": ["b"], "b": ["c"], "c": ["a"], "free": []}) in {
        "A -> B -> C -> A",
        "B -> C -> A -> B",
        "C -> A -> B -> C",
    }


def test_cycle_text_leaves_out_who_waits_for_the_circle() -> None:
    """Only the circle's own tasks can break it."""
    assert circle_in({"first": [], "a": ["b", "first"], "b": ["a"], "late": ["a"]}) in {"A -> B -> A", "B -> A -> B"}


def test_cycle_of_one_is_a_cycle() -> None:
    """A task that waits for itself waits for ever."""
    assert circle_in({"a": ["a"]}) == "A -> A"


def test_gaps_are_all_named() -> None:
    """Every task and every name it misses, in the order given, in the text and as fields."""
    names = {"a": "A", "b": "b", "x": "X", "y": "y"}
    with pytest.raises(DependencyNotFoundError) as caught:
        check_dependencies({"a": ["x", "b"], "b": ["y", "x"]}, names.__getitem__)
    error = caught.value
    assert error.missing == (("A", "X"), ("b", "y"), ("b", "X"))
    assert (error.task_name, error.missing_dep) == ("A", "X")
    for task, gap in error.missing:
        assert f"Task '{task}' depends on missing task: '{gap}'" in str(error)


def test_gaps_survive_pickling() -> None:
    """A caller may have built the process in another process."""
    with pytest.raises(DependencyNotFoundError) as caught:
        check_dependencies({"a": ["x"]}, str)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.missing) == (str(caught.value), caught.value.missing)


def test_check_passes_a_graph_without_gaps() -> None:
    """Circles are none of its business."""
    check_dependencies({"a": ["b"], "b": ["a"]}, str)


def test_dependants_are_the_edges_turned_round() -> None:
    """Every task has its list, in the order given, each dependant in it once."""
    turned = dependants_of({"d": ["b", "c"], "c": ["a"], "b": ["a", "a"], "a": []})
    assert turned == {"d": [], "c": ["d"], "b": ["d"], "a": ["c", "b"]}


def test_reachable_is_breadth_first_without_repeats() -> None:
    """The nearest come first, and a diamond's end comes once."""
    edges = {"a": ["b", "c"], "b": ["d"], "c": ["d", "e"], "d": ["f"], "e": [], "f": []}
    assert reachable(["a"], edges) == ["b", "c", "d", "e", "f"]


def test_reachable_leaves_out_the_start() -> None:
    """Also where the start can be reached from itself."""
    assert reachable(["a", "b"], {"a": ["b"], "b": ["c"], "c": ["a"]}) == ["c"]


def test_reachable_takes_a_start_that_can_be_read_once() -> None:
    """An iterator will do."""
    assert reachable(iter(["a"]), {"a": ["b"], "b": []}) == ["b"]
