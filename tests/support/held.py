"""Things that a task raises or returns though no pickle could bring them to it: a fork has them already."""

import enum
from typing import Any, NoReturn

#: What the tasks of a test raise or return, by number.
HELD: list[Any] = []


def raise_held(number: int) -> NoReturn:
    raise HELD[number]


def return_held(number: int) -> object:
    held: object = HELD[number]
    return held


class Behaviour(enum.Enum):
    """What a method of an exception or of a value does."""

    NORMAL = "normal"
    RAISES = "raises"
    RAISES_BASE = "raises a BaseException"
    LIES = "returns what it must not"


def behave(behaviour: Behaviour, normal: Any) -> Any:  # noqa: ANN401  that is what it is about
    """What a method with that behaviour returns, if it does."""
    if behaviour is Behaviour.RAISES:
        raise ZeroDivisionError("as it was made")
    if behaviour is Behaviour.RAISES_BASE:
        raise SystemExit(3)
    return 17 if behaviour is Behaviour.LIES else normal


class Odd(Exception):
    """An exception whose methods behave as they were told."""

    def __init__(self, text: Behaviour, shown: Behaviour, reduced: Behaviour, value: object) -> None:
        super().__init__(value)
        self.text, self.shown, self.reduced, self.value = text, shown, reduced, value

    def __str__(self) -> str:
        found: str = behave(self.text, "odd")
        return found

    def __repr__(self) -> str:
        found: str = behave(self.shown, "Odd()")
        return found

    def __reduce__(self) -> Any:  # noqa: ANN401  the pickle protocol's own
        return behave(self.reduced, (Odd, (self.text, self.shown, self.reduced, self.value)))


class OddBase(BaseException):
    """One that is no Exception, and takes no arguments when it is loaded."""

    def __init__(self) -> None:
        super().__init__("one", "two")
