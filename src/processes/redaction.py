"""
What looks like a secret becomes `[redacted]` before anybody is shown it. Pure.

A value is a secret by its name (`password`, `db_token`, `apiKey`), or by its looks wherever it stands: the password of
a URL, a bearer token, a private key in PEM, a quoted text that is assigned to such a name.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

REDACTED = "[redacted]"

#: Parts of a name that make its value a secret wherever they stand in it.
_ANYWHERE = (
    "password(?!less)",
    "passwd",
    "passphrase",
    "secret(?!ar)",  # no secretary
    "credential",
    "authorization",
    "api_?key",
    "private_?key",
)

#: Words of a name that do: as a part of a longer word they mean something else (tokenizer).
_WORDS = ("token", "cookie", "dsn", "pwd")

#: One of these, or a name that a Process adds, is in every ASCII text that `Redaction.hint` finds something in.
_TRACES = ("pass", "secret", "credential", "authorization", "key", *_WORDS, "://", "bearer")

#: What tells nobody anything, whatever the name: that there was no password is worth knowing.
_NO_SECRETS = frozenset({"None", "True", "False", "''", "b''"})

_NUMBER = r"-?\d{1,20}(?:\.\d{1,20})?"

_CAMEL = r"(?<=[a-z0-9])(?=[A-Z])"

# (?<![^...]) looks at one character only, and every repetition is bounded: the time is linear, whatever the text.
_URL_PASSWORD = r"(://[^\s:/@'\"]{0,200}:)[^\s/'\"]{1,1000}@"  # noqa: S105  it finds one
_BEARER = r"(?i)\b(bearer)\s{1,4}[\w.~+/=-]{4,}"
_PEM_LINE = r"-----{} [A-Z ]{{0,40}}PRIVATE KEY-----"
_PRIVATE_KEY = rf"(?s){_PEM_LINE.format('BEGIN')}.*?(?:{_PEM_LINE.format('END')}|\Z)"
_QUOTED = r"""[rbfu]{0,2}(?:"(?:[^"\\]|\\.)*(?:"|\Z)|'(?:[^'\\]|\\.)*(?:'|\Z))"""
#: A container that holds none of its own kind: what is deeper within a text is not looked through.
_CONTAINER = r"(?:\{[^{}]{0,4000}\}|\[(?!redacted\])[^\[\]]{0,4000}\])"
_UNQUOTED = r"(?i)(?<![a-z])((?:password|passwd|pwd)=)[^\s&;'\",()\[\]]{1,1000}"

#: Compiles a pattern when it is first used: all of them together take 2 ms, and most processes use none.
_compiled = cache(re.compile)


class Redaction(NamedTuple):
    """A rule of what is a secret, in regular expressions. `redaction_of` makes it."""

    #: Says of a name whether its value is a secret; None where nothing is redacted.
    name: str | None
    #: Finds such a name with the quoted text that is assigned to it.
    assigned: str | None
    #: Finds whether a text may hold a secret at all: most hold none, and one look is enough.
    hint: str | None
    #: In lower case, one of what every ASCII text has that `hint` finds something in; empty where that is not known.
    traces: tuple[str, ...] = ()

    def is_secret(self, name: str, *, is_number: bool = False) -> bool:
        """Whether the value of that name is not to be shown; a number of tokens or cookies is none."""
        if self.name is None:
            return False
        found = _compiled(self.name).search(_compiled(_CAMEL).sub("_", name))
        return found is not None and not (is_number and found["word"])

    def text(self, text: str) -> str:
        """The text without what looks like a secret."""
        if self.hint is None or self.assigned is None or not self._has_trace(text):
            return text
        if _compiled(self.hint).search(text) is None:
            return text
        text = _compiled(_PRIVATE_KEY).sub(REDACTED, text)
        text = _compiled(_URL_PASSWORD).sub(rf"\1{REDACTED}@", text)
        text = _compiled(_BEARER).sub(rf"\1 {REDACTED}", text)
        text = _compiled(self.assigned).sub(rf"\1{REDACTED}", text)
        return _compiled(_UNQUOTED).sub(rf"\1{REDACTED}", text)

    def _has_trace(self, text: str) -> bool:
        """
        Whether to search for the hint at all, which at every position tries every word, in either case: ten times this.

        Only ASCII: elsewhere a pattern that ignores case finds more than `lower` makes equal: a kelvin sign is a k.
        """
        if not self.traces or not text.isascii():
            return True
        lowered = text.lower()
        for trace in self.traces:  # noqa: SIM110  `any` over a generator costs as much again
            if trace in lowered:
                return True
        return False

    def value(self, name: str, text: str) -> str:
        """What is shown of a value: `text` is its repr."""
        if self.is_secret(name, is_number=_compiled(_NUMBER).fullmatch(text) is not None):
            return text if text in _NO_SECRETS else REDACTED
        return self.text(text)


@lru_cache(maxsize=16)
def redaction_of(rule: bool | tuple[str, ...]) -> Redaction:
    """The default rule for True, none for False; names are parts of names whose values are secrets too."""
    if rule is False:
        return Redaction(None, None, None)
    names = () if rule is True else rule
    parts = [*_ANYWHERE, *(re.escape(name) for name in names)]
    words = "|".join(_WORDS)
    found = rf"(?:{'|'.join(parts)}|(?<![a-z])(?:{words})s?(?![a-z]))"
    return Redaction(
        rf"(?i){'|'.join(parts)}|(?P<word>(?<![a-z])(?:{words})s?(?![a-z]))",
        rf"""(?is)({found}[\w-]{{0,40}}['"]?\]?\s{{0,4}}[=:]\s{{0,4}})(?:{_QUOTED}|{_CONTAINER})""",
        rf"(?i){'|'.join(parts)}|{words}|://|bearer|PRIVATE KEY",
        (*_TRACES, *(name.lower() for name in names)) if all(name.isascii() for name in names) else (),
    )


#: The rule where a Process does not say.
DEFAULT = redaction_of(True)
