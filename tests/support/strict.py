"""JSON as a strict reader takes it."""

import json
from typing import Any


def loads(text: str) -> Any:  # noqa: ANN401  any JSON value
    """
    The value, in an object the keys of which are all different, without NaN, in text that UTF-8 can hold.

    Raises:
        ValueError: It is not so.
    """
    text.encode()
    return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)


def _refuse(token: str) -> None:
    raise ValueError(f"{token} is no JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice: {[key for key, _ in pairs]}")
    for key in found:
        key.encode()
    return found
