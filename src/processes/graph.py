"""Names to tasks, and tasks in an order in which each comes after what it waits for. Pure."""

from __future__ import annotations

import graphlib
from collections import deque
from typing import TYPE_CHECKING

from processes.exceptions import CircularDependencyError, DependencyNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping


def key_of(name: str) -> str:
    """What two names share when they mean the same task: mostly the name itself, which is in memory already."""
    key = name.casefold()
    return name if type(name) is str and key == name else key  # A str of another class may hash otherwise.


def check_dependencies(dependencies: Mapping[str, Collection[str]], name: Callable[[str], str]) -> None:
    """
    Every dependency is there.

    Args:
        dependencies: {key of a task: keys it waits for}, in the order given by the user.
        name: The name as written of a task's or dependency's key; asked only for an error's text.

    Raises:
        DependencyNotFoundError: It names all gaps at once.
    """
    gaps = [
        (name(task), name(wanted))
        for task, wants in dependencies.items()
        for wanted in wants
        if wanted not in dependencies
    ]
    if gaps:
        raise DependencyNotFoundError(*gaps[0], missing=gaps)


def topological_order(dependencies: Mapping[str, Collection[str]], name: Callable[[str], str]) -> list[str]:
    """
    Order tasks: those without dependencies as given, then each when its last dependency has been placed.

    Raises:
        CircularDependencyError: It shows one circle.
    """
    if not any(dependencies.values()):
        return list(dependencies)
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for key in dependencies:  # First all of them bare: the sorter starts with the order in which it met them.
        sorter.add(key)
    for key, wants in dependencies.items():
        if wants:
            sorter.add(key, *wants)
    try:
        return list(sorter.static_order())
    except graphlib.CycleError as error:
        circle = " -> ".join(name(key) for key in reversed(error.args[1]))
        msg = f"Circular dependency detected. Tasks wait for each other: {circle}. Drop one of these dependencies."
        raise CircularDependencyError(msg) from None


def dependants_of(dependencies: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """{key: keys of the tasks that wait for it directly}, in the order given."""
    dependants: dict[str, list[str]] = {key: [] for key in dependencies}
    for key, wants in dependencies.items():
        for wanted in dict.fromkeys(wants):
            dependants[wanted].append(key)
    return dependants


def reachable(start: Iterable[str], edges: Mapping[str, Collection[str]]) -> list[str]:
    """All that can be reached from `start` along `edges`, breadth first, once each, without the start itself."""
    start = list(start)
    seen = dict.fromkeys(start)
    queue = deque(start)
    found: list[str] = []
    while queue:
        for key in edges[queue.popleft()]:
            if key not in seen:
                seen[key] = None
                found.append(key)
                queue.append(key)
    return found
