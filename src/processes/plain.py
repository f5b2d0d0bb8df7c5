"""
Any value in the types of JSON; what JSON has no type for comes as its text.

Pure, and runs in the parent. It cannot fail, whatever the value does when it is looked at: what cannot be read costs
itself. So types are asked of `type()`, since an object may lie about its `__class__`, and containers are walked with a
stack of our own: neither one that holds itself nor one a hundred thousand levels deep meets a limit of the interpreter.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias

from processes.failure import bounded_repr, shorten, text_of, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_Way: TypeAlias = "Callable[[Any], _Level | Json]"

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

#: Containers within containers that are kept; what lies deeper comes as its bounded text. Python's own reader, and its
#: writer where it indents, take a frame for each and have 1,000 for all, their callers' included.
DEPTH_MAX = 400

#: Bits of an int that is written as a number: one of more than 4,300 digits would keep Python from reading the whole
#: document (sys.set_int_max_str_digits).
INT_BITS_MAX = 14_284

#: Bits of an int whose digits no limit forbids: 640 (sys.int_info.str_digits_check_threshold).
_SAFE_BITS = 2_126

#: Characters of the error that tells why something could not be read.
_TROUBLE_CHARS_MAX = 200

#: Members of an Enum that are each other's value are looked through so many times.
_MEMBERS_MAX = 10


class _Level:
    """A container that is being made plain."""

    __slots__ = ("keys", "made", "parts", "source")

    def __init__(self, source: object, parts: Iterator[object], keys: Sequence[str] | None = None) -> None:
        #: The container; kept, or another object could take its `id` meanwhile.
        self.source = source
        self.parts = parts
        #: The parts' keys; None for a list.
        self.keys = keys
        #: Of the parts that have been looked at.
        self.made: list[Json] = []

    def built(self) -> Json:
        """All parts together."""
        return self.made if self.keys is None else dict(zip(self.keys, self.made, strict=True))


def plain(value: object) -> Json:
    """
    The value as None, bool, int, finite float, str that UTF-8 can hold, list, and dict with such str as keys.

    - An Enum is its value, a dataclass an object of its fields; tuples and sets are lists; bytes are read as UTF-8,
      with U+FFFD for what is none.
    - A key is the text of what it would be as a value. Keys that read the same are told apart by a number: "1 (2)".
    - NaN and the infinities, ints of more than 4,300 digits (in hexadecimal) and lone surrogates (escaped) are texts.
    - A container within itself is "[...]" or "{...}".
    - Of everything else, and of what lies deeper than DEPTH_MAX, the bounded repr.
    """
    level = _Level(None, iter((value,)))
    levels = [level]
    inside: set[int] = set()  # ids of the containers that are being made plain
    # {id of a type: how its values are made plain}. By id, since a metaclass may forbid to hash a type.
    ways = dict(_EXACT_WAYS)
    while True:
        made = level.made
        for part in level.parts:
            kind = type(part)
            if kind is str and part.isascii():  # type: ignore[attr-defined]  # What most are, without a call
                made.append(part)  # type: ignore[arg-type]
                continue
            way = ways.get(id(kind)) or ways.setdefault(id(kind), _guarded_way_of(kind))
            found = way(part)
            if type(found) is not _Level:
                made.append(found)  # type: ignore[arg-type]
            elif id(found.source) in inside:
                made.append("[...]" if found.keys is None else "{...}")
            elif len(levels) > DEPTH_MAX:
                made.append(_repr(found.source))
            else:
                inside.add(id(found.source))
                levels.append(found)
                break  # to its parts; this level's others follow when it is done
        else:
            levels.pop()
            if not levels:
                return made[0]
            inside.discard(id(level.source))
            levels[-1].made.append(level.built())
        level = levels[-1]


def texts_of(keys: Iterable[object]) -> list[str]:
    """A text for each key, no two the same; a key that is a text already keeps it before others."""
    known = list(keys)
    texts = [key if type(key) is str and key.isascii() else _key_text(key) for key in known]
    return texts if len(set(texts)) == len(texts) else _told_apart(known, texts)


def attribute(owner: object, name: str) -> object:
    """An attribute, or the text that says why there is none: whatever is run to make it may raise."""
    try:
        return getattr(owner, name)
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001  foreign code
        why = ": ".join(part for part in (type_name(type(trouble)), text_of(trouble)) if part)
        return f"<{name} cannot be read: {shorten(why, _TROUBLE_CHARS_MAX)}>"


# ---- by type ---------------------------------------------------------------------------------------------------------


def _way_of(kind: type) -> _Way:
    """How values of a type are made plain."""
    if issubclass(kind, enum.Enum):
        return _member
    for base, way in _WAYS:
        if issubclass(kind, base):
            return way
    if dataclasses.is_dataclass(kind):
        return functools.partial(_fields, [field.name for field in dataclasses.fields(kind)])
    return _repr


def _guarded_way_of(kind: type) -> _Way:
    """That, if the type lets itself be asked, for values that may run foreign code."""
    try:
        way = _way_of(kind)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  a metaclass
        way = _repr
    return functools.partial(_guarded, way, kind)


def _guarded(way: _Way, kind: type, value: object) -> _Level | Json:  # noqa: ARG001  the type is kept, for its id
    try:
        return way(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  foreign code
        return _repr(value)


def _repr(value: object) -> str:
    try:
        return _text(bounded_repr(value))
    except KeyboardInterrupt:
        raise
    except BaseException as trouble:  # noqa: BLE001  foreign code: a value may not even tell its class
        return f"<unreprable: {type_name(type(trouble))}>"


def _member(value: enum.Enum) -> _Level | Json:
    """An Enum's value, which may be anything, an Enum too."""
    found: object = value
    for _ in range(_MEMBERS_MAX):
        found = found.value  # type: ignore[attr-defined]
        if not issubclass(type(found), enum.Enum):
            return _way_of(type(found))(found)
    return _repr(value)


# ---- containers ------------------------------------------------------------------------------------------------------


def _dict(value: dict[object, object]) -> _Level | Json:
    if type(value) is not dict:
        return _dict_of_a_kind(value)
    if not value:
        return {}
    # In lists, and both at once: the repr of a key or a part may change the dict.
    keys: list[Any] = list(value)
    parts = list(value.values())
    if not (all([type(key) is str for key in keys]) and "".join(keys).isascii()):  # noqa: C419  half as fast without
        keys = texts_of(keys)
    return _Level(value, iter(parts), keys)


def _dict_of_a_kind(value: dict[object, object]) -> _Level:
    """As the subclass gives its items, or as it holds them where that fails."""
    try:
        pairs = [(key, part) for key, part in value.items()]  # noqa: C416  pairs, or it fails here
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  foreign code
        pairs = list(dict.items(value))
    return _Level(value, iter([part for _, part in pairs]), texts_of(key for key, _ in pairs))


def _row(value: Iterable[object]) -> _Level | Json:
    """As above."""
    try:
        parts = list(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  foreign code
        base: Any = next(base for base in (list, tuple, set, frozenset) if issubclass(type(value), base))
        parts = list(base.__iter__(value))
    return _Level(value, iter(parts)) if parts else []


def _fields(names: list[str], value: object) -> _Level:
    """Of a dataclass."""
    return _Level(value, iter([attribute(value, name) for name in names]), names)


# ---- scalars: of a subclass, the plain value that it is --------------------------------------------------------------


def _text(value: str) -> str:
    """The text with lone surrogates as escapes: UTF-8 has none, and readers make one character of two of them."""
    if type(value) is str and value.isascii():
        return value
    exact = str.__str__(value)
    try:
        exact.encode()
    except UnicodeEncodeError:
        return exact.encode("utf-8", "backslashreplace").decode()
    return exact


def _integer(value: int) -> int | str:
    size = int.bit_length(value)
    if size > INT_BITS_MAX:
        return hex(int.__int__(value))
    if size > _SAFE_BITS:
        try:
            int.__repr__(value)
        except ValueError:  # The program has lowered the limit.
            return hex(int.__int__(value))
    return int.__int__(value)


def _float(value: float) -> float | str:
    exact = float.__float__(value)
    return exact if math.isfinite(exact) else repr(exact)


def _bytes(value: bytes) -> str:
    return bytes.decode(value, "utf-8", "replace")


def _bytearray(value: bytearray) -> str:
    return bytearray.decode(value, "utf-8", "replace")


def _same(value: bool | None) -> bool | None:
    return value


#: How values of these types and of their subclasses are made plain; the first that fits.
_WAYS: tuple[tuple[type, _Way], ...] = (
    (bool, _same),
    (type(None), _same),
    (str, _text),
    (int, _integer),
    (float, _float),
    (dict, _dict),
    (list, _row),
    (tuple, _row),
    (set, _row),
    (frozenset, _row),
    (bytes, _bytes),
    (bytearray, _bytearray),
)

#: By id; of these types themselves, so that nobody's code is run.
_EXACT_WAYS = {id(kind): way for kind, way in _WAYS}


# ---- keys ------------------------------------------------------------------------------------------------------------


def _key_text(key: object) -> str:
    """The text of what it would be as a value, or its repr where it has parts."""
    found = _guarded_way_of(type(key))(key)
    if isinstance(found, str):
        return found
    return json.dumps(found) if found is None or isinstance(found, int | float) else _repr(key)


def _told_apart(keys: list[object], texts: list[str]) -> list[str]:
    """The texts, with a number behind those that are taken."""
    own = [type(key) is str and key == text for key, text in zip(keys, texts, strict=True)]
    reserved = {text for text, is_own in zip(texts, own, strict=True) if is_own}
    used: set[str] = set()
    numbers: dict[str, int] = {}  # {text: the number that it was given last}
    found = []
    for text, is_own in zip(texts, own, strict=True):
        chosen = text
        while chosen in used or (chosen in reserved and not (is_own and chosen is text)):
            numbers[text] = numbers.get(text, 1) + 1
            chosen = f"{text} ({numbers[text]})"
        used.add(chosen)
        found.append(chosen)
    return found
