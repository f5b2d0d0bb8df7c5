"""Things that a task raises or returns though no pickle could bring them to it: a fork has them already."""

from typing import Any, NoReturn

#: What the tasks of a test raise or return, by number.
HELD: list[Any] = []


def raise_held(number: int) -> NoReturn:
    raise HELD[number]


def return_held(number: int) -> object:
    held: object = HELD[number]
    return held
