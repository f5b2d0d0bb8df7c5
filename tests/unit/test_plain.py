"""Any value becomes one that JSON has a type for, and none can stop it."""

import collections
import dataclasses
import enum
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from processes.plain import DEPTH_MAX, INT_BITS_MAX, attribute, plain, texts_of
from support import strict


class Colour(enum.Enum):
    """A value that is plain, one that is not, and one that is a member in its turn."""

    RED = "red"
    PATH = Path("/a")


class Shade(enum.Enum):
    """Its values are members of another."""

    DARK = Colour.RED
    PAIR = (Colour.RED, {1})


class Number(enum.IntEnum):
    """An int, too."""

    ONE = 1


class Word(enum.StrEnum):
    """A text, too."""

    YES = "yes"


class Endless(enum.Enum):
    """A member that says it is its own value."""

    SELF = 1

    @property
    def value(self) -> "Endless":  # type: ignore[override]  # not what an Enum should do
        return self


class Text(str):
    """A text that shows another."""

    __slots__ = ()

    def __str__(self) -> str:
        return "other"


class Whole(int):
    """An int that cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Real(float):
    """A float that shows as another."""

    def __repr__(self) -> str:
        return "other"


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


@dataclasses.dataclass
class Pair:
    """A user's dataclass."""

    left: object
    right: object


@dataclasses.dataclass
class Faulty:
    """One of whose fields cannot be read."""

    left: int

    @property
    def right(self) -> int:
        raise LookupError("it is gone")


# Not in the class: there it would be taken for a default.
Faulty.__dataclass_fields__["right"] = Pair.__dataclass_fields__["right"]


class Liar:
    """Says it is a dict."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # noqa: ANN401  a class
        return dict

    def __repr__(self) -> str:
        return "<a liar>"


class Unclassed:
    """Will not say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # noqa: ANN401  it says nothing
        raise ZeroDivisionError

    def __repr__(self) -> str:
        return "<unclassed>"


class Meta(type):
    """Classes that cannot be hashed, nor asked for anything."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        raise ZeroDivisionError

    def __getattr__(cls, name: str) -> object:
        raise ZeroDivisionError(name)


class Odd(metaclass=Meta):
    """One of those."""

    def __repr__(self) -> str:
        return "<odd>"


class Quitter:
    """Its repr ends the program."""

    def __repr__(self) -> str:
        raise SystemExit(3)


class BadItems(dict[str, int]):
    """A dict that does not give its items."""

    def items(self) -> Any:  # noqa: ANN401  it gives none
        raise ZeroDivisionError


class Doubled(dict[str, int]):
    """A dict that gives each item twice."""

    def items(self) -> Any:  # noqa: ANN401  a list of them
        return [*super().items(), *super().items()]


class BadList(list[int]):
    """A list that does not give its parts."""

    def __iter__(self) -> Iterator[int]:
        raise ZeroDivisionError


class Spoiler:
    """A key whose repr empties the dict that it is in."""

    def __init__(self, owner: dict[object, object]) -> None:
        self.owner = owner

    def __repr__(self) -> str:
        self.owner.clear()
        return "<spoiler>"


def spoiled() -> object:
    """A dict that changes while it is looked at."""
    made: dict[object, object] = {"a": 1}
    made[Spoiler(made)] = 2
    return made


def nested(depth: int) -> object:
    """So many lists around a number."""
    made: object = 1
    for _ in range(depth):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.PATH, repr(Path("/a"))),
        (Shade.DARK, "red"),
        (Shade.PAIR, ["red", [1]]),
        (Number.ONE, 1),
        (Word.YES, "yes"),
        (Text("a"), "a"),
        (Whole(7), 7),
        (Real(0.5), 0.5),
        (Real("nan"), "nan"),
        (Point(1, 2), [1, 2]),
        (Pair, repr(Pair)),
        (range(3), "range(0, 3)"),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aa"), {"a": 2}),
        (Liar(), "<a liar>"),
        (Odd(), "<odd>"),
        (BadItems(a=1), {"a": 1}),
        (Doubled(a=1), {"a": 1, "a (2)": 1}),
        (BadList([1]), [1]),
        (Endless.SELF, repr(Endless.SELF)),
        ("", ""),
        ((), []),
        ({}, {}),
        (-0.0, -0.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_keeps_what_there_is_of_a_value(value: object, expected: object) -> None:
    """A subclass is what it is derived from, whatever it says; what breaks costs itself."""
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


def test_plain_outlives_a_value_that_does_not_tell_its_class() -> None:
    """Whatever is shown of it, as a value or as a key, what stands beside it is there."""
    assert json.dumps(plain([Unclassed(), {Unclassed(): "in"}, "beside"])).endswith(': "in"}, "beside"]')


def test_plain_tells_which_field_cannot_be_read() -> None:
    """The others are there."""
    assert plain(Faulty(1)) == {"left": 1, "right": "<right cannot be read: LookupError: it is gone>"}


@pytest.mark.parametrize("value", [Quitter(), {Quitter(): 1}, [Quitter()]], ids=["value", "key", "part"])
def test_plain_outlives_a_repr_that_ends_the_program(value: object) -> None:
    """It is in the text instead."""
    assert "SystemExit" in json.dumps(plain(value))


def test_plain_lets_ctrl_c_pass() -> None:
    """What the user pressed while a field was read is not taken for the field's fault."""

    class Slow(dict[str, int]):
        def items(self) -> Any:  # noqa: ANN401  it gives none
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plain([Slow()])


def test_plain_takes_a_dict_that_changes_meanwhile() -> None:
    """What it held when it was met."""
    assert plain(spoiled()) == {"a": 1, "<spoiler>": 2}


# ---- circles and depth -----------------------------------------------------------------------------------------------


def test_plain_shows_a_circle_where_it_closes() -> None:
    """Through any container; what only stands twice is no circle."""
    row: list[object] = [1]
    table: dict[str, object] = {"row": row}
    pair = Pair(table, row)
    row.append(pair)
    assert plain(row) == [1, {"left": {"row": "[...]"}, "right": "[...]"}]
    assert plain(table) == {"row": [1, {"left": "{...}", "right": "[...]"}]}
    assert plain([table["row"], table["row"]]) == [plain(row), plain(row)]


def test_plain_shows_a_circle_through_a_member() -> None:
    """An Enum's value may hold the Enum."""
    held: list[object] = []
    own = enum.Enum("own", {"HELD": held})
    held.append(own.HELD)
    assert plain(own.HELD) == ["[...]"]


def test_plain_keeps_what_lies_as_deep_as_can_be_read() -> None:
    """One level more is a text, and the next time as well."""
    assert plain(nested(DEPTH_MAX)) == nested(DEPTH_MAX)
    deeper = plain(nested(DEPTH_MAX + 1))
    assert '["[1]"]' in json.dumps(deeper)
    assert plain(deeper) == deeper


@pytest.mark.parametrize("indent", [None, 2])
def test_plain_of_any_depth_is_written_and_read(indent: int | None) -> None:
    """Python's own writer and reader take the deepest there is."""
    text = json.dumps(plain(nested(100_000)), indent=indent)
    assert "[[[[...]]]]" in text
    assert json.loads(text)


def test_plain_needs_no_more_stack_for_more_depth() -> None:
    """It is told from a caller that has little left."""

    def call(depth: int) -> object:
        return call(depth - 1) if depth else plain(nested(DEPTH_MAX))

    used = len(list(_frames()))
    assert call(sys.getrecursionlimit() - used - 50) == nested(DEPTH_MAX)


def _frames() -> Iterator[object]:
    frame = sys._getframe()
    while frame.f_back is not None:
        yield frame
        frame = frame.f_back


# ---- numbers and text ------------------------------------------------------------------------------------------------


def test_plain_writes_a_number_as_long_as_python_reads_it() -> None:
    """4,300 digits; a longer one is whole, but in hexadecimal."""
    largest = 2**INT_BITS_MAX - 1
    assert plain([largest, -largest]) == [largest, -largest]
    assert plain([largest + 1, -largest - 1]) == [hex(largest + 1), hex(-largest - 1)]
    assert json.loads(json.dumps(plain([largest, largest + 1]))) == [largest, hex(largest + 1)]


def test_plain_obeys_the_programs_own_limit_of_digits() -> None:
    """A program may have set a lower one."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(1_000)
    try:
        assert plain([10**999, 10**1000]) == [10**999, hex(10**1000)]
    finally:
        sys.set_int_max_str_digits(before)


def test_plain_escapes_what_has_no_utf8() -> None:
    """As Python does; two such halves are not read as the one character that they would make together."""
    assert plain("a\ud83d") == "a\\ud83d"
    assert plain("\ud83d\ude00") == "\\ud83d\\ude00"
    assert plain("ü\U0001f600") == "ü\U0001f600"
    halves = {"\ud83d\ude00": 1, "\U0001f600": 2, "\\ud83d\\ude00": 3}
    assert list(strict.loads(json.dumps(plain(halves))).values()) == [1, 2, 3]


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ([1, None, True, 0.5, "a"], ["1", "null", "true", "0.5", "a"]),
        ([float("nan"), float("inf")], ["nan", "inf"]),
        ([b"caf\xc3\xa9", Colour.RED, Number.ONE, Word.YES, Text("b")], ["café", "red", "1", "yes", "b"]),
        ([(1, "x"), Colour.PATH, frozenset({1})], ["(1, 'x')", repr(Path("/a")), "frozenset({1})"]),
        ([1, "1", 1.0], ["1 (2)", "1", "1.0"]),
        ([None, "null", b"null", "null (2)"], ["null (3)", "null", "null (4)", "null (2)"]),
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        ([10**5000], [hex(10**5000)]),
    ],
    ids=["scalars", "floats", "kinds", "reprs", "ints", "taken", "twice", "long"],
)
def test_texts_of_keys_are_those_of_values_and_differ(keys: list[object], texts: list[str]) -> None:
    """A key that is a text keeps it; another that reads the same gets the next free number."""
    assert texts_of(keys) == texts


def test_texts_of_many_keys_that_read_the_same_are_found_at_once() -> None:
    """The numbers go on where they were: work grows with the number of keys, not with its square."""

    class Same:
        def __repr__(self) -> str:
            return "same"

    texts = texts_of([Same() for _ in range(20_000)])
    assert (texts[0], texts[1], texts[-1]) == ("same", "same (2)", "same (20000)")


# ---- attributes ------------------------------------------------------------------------------------------------------


def test_attribute_that_cannot_be_read_says_why() -> None:
    """Bounded, and also where the error has no text."""

    class Bad:
        @property
        def long(self) -> int:
            raise ValueError("x" * 10_000)

        @property
        def silent(self) -> int:
            raise ZeroDivisionError

    assert attribute(Bad(), "silent") == "<silent cannot be read: ZeroDivisionError>"
    assert len(str(attribute(Bad(), "long"))) < 300
    assert attribute(3, "real") == 3
