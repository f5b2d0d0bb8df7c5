"""
An exception captured as plain data, in the process where it lives.

Runs in the child, and in the caller for sequential and thread mode. The capture cannot fail, and a value's repr cannot
grow it: what it returns can always travel and always be shown.
"""

from __future__ import annotations

import os
import reprlib
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

#: Limits of a failure's locals: the number shown, and characters of each. A frame with more says so.
LOCALS_MAX = 100
LOCAL_CHARS_MAX = 2_000

#: Characters of an exception's own text, and of a traceback: the ends are kept, the middle is cut.
TEXT_CHARS_MAX = 100_000

_PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Failure(NamedTuple):
    """A failure as plain data: scalars, text and dicts of text."""

    #: The exception's type, qualified by its module unless it is a builtin.
    exception_type: str
    #: `str()` of the exception.
    exception: str
    #: The full traceback, causes and contexts included.
    traceback_str: str
    #: {name: bounded repr} of the chosen frame's locals.
    traced_vars: dict[str, str]
    #: "file:line" of the chosen frame, the line being the traceback's.
    traced_vars_location: str


def capture(error: BaseException, frame_filter: str | None = None) -> Failure:
    """
    Everything worth knowing of an exception.

    Args:
        error: The exception, with the traceback it was caught with.
        frame_filter: Take the locals of the innermost frame whose file name contains this text; without it, of the
            innermost frame of the user's own code. Where none fits, of the innermost frame that is not ours.
    """
    frames = [step for step in _steps(error.__traceback__) if not _is_ours(step[0])]
    chosen = _choose(frames, frame_filter)
    return Failure(
        exception_type=type_name(type(error)),
        exception=text_of(error),
        traceback_str=_traceback_text(error),
        traced_vars=_locals_of(chosen[0]) if chosen else {},
        traced_vars_location=f"{chosen[0].f_code.co_filename}:{chosen[1]}" if chosen else "",
    )


def let_go(error: BaseException) -> None:
    """Free the locals of the frames that an exception passed: they are the user's memory."""
    traceback.clear_frames(error.__traceback__)
    if sys.version_info < (3, 13):  # What was read of a frame's locals is kept with it until it is read again.
        for frame, _ in _steps(error.__traceback__):
            if frame.f_code.co_name != "<module>":
                frame.f_locals  # noqa: B018


def of_error(error: BaseException) -> Failure:
    """An error that was never raised where it could be traced: a death, a time-out."""
    return Failure(
        exception_type=type_name(type(error)),
        exception=text_of(error),
        traceback_str=f"{type_name(type(error))}: {text_of(error)}\n",
        traced_vars={},
        traced_vars_location="",
    )


def type_name(kind: type) -> str:
    """Name of a type as a traceback shows it."""
    module = getattr(kind, "__module__", None)
    name = getattr(kind, "__qualname__", kind.__name__)
    return name if module in ("builtins", "__main__", None) else f"{module}.{name}"


def text_of(error: BaseException) -> str:
    """`str()` of an exception, also where its `__str__` raises; never longer than TEXT_CHARS_MAX."""
    try:
        text = str(error)
    except BaseException as trouble:  # noqa: BLE001  foreign code: the task has failed already, this must not
        return f"<str() of this {type_name(type(error))} raised {type_name(type(trouble))}>"
    return shorten(text, TEXT_CHARS_MAX)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a text that is longer than `limit` characters, saying how much."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ... [{len(text) - 2 * half} characters left out] ... {text[-half:]}"


class _BoundedRepr(reprlib.Repr):
    """Bounded in depth, width and characters; a repr that raises is said, not passed on."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxtuple = self.maxlist = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = (
            self.maxarray
        ) = 50
        self.maxstring = self.maxother = LOCAL_CHARS_MAX
        self.maxlong = 200

    def repr_instance(self, x: object, level: int) -> str:  # noqa: ARG002  reprlib's signature
        shape = getattr(x, "shape", None)
        dtype = getattr(x, "dtype", None)
        if isinstance(shape, tuple):  # Arrays and data frames: their content could be gigabytes.
            return f"<{type_name(type(x))} shape={shape}{f' dtype={dtype}' if dtype is not None else ''}>"
        return shorten(repr(x), LOCAL_CHARS_MAX)

    def repr_bytes(self, x: bytes | bytearray, level: int) -> str:  # noqa: ARG002  reprlib's signature
        if len(x) <= LOCAL_CHARS_MAX:
            return repr(x)
        # Four characters a byte, were it shown whole.
        return f"<{type(x).__name__} of {len(x)} bytes: {x[: LOCAL_CHARS_MAX // 4]!r}...>"

    repr_bytearray = repr_bytes


_bounded = _BoundedRepr()


def bounded_repr(value: object) -> str:
    """`repr()` that cannot raise and cannot grow over LOCAL_CHARS_MAX or so."""
    try:
        return shorten(_bounded.repr(value), LOCAL_CHARS_MAX + 100)
    except BaseException as trouble:  # noqa: BLE001  foreign code
        return f"<unreprable: {type_name(type(trouble))}: {text_of(trouble)[:200]}>"


def _steps(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PACKAGE_FOLDER)


def _choose(frames: list[tuple[FrameType, int]], frame_filter: str | None) -> tuple[FrameType, int] | None:
    if frame_filter is None:
        fitting = [step for step in frames if not _is_library(step[0].f_code.co_filename)]
    else:
        fitting = [step for step in frames if frame_filter in step[0].f_code.co_filename]
    found = fitting or frames
    return found[-1] if found else None


def _is_library(filename: str) -> bool:
    """Whether a file was installed rather than written by the user; a synthetic name ("<stdin>") is the user's."""
    return (
        "site-packages" in filename
        or ".venv" in filename
        or filename.startswith((sys.base_prefix + os.sep, "<frozen "))
    )


def _locals_of(frame: FrameType) -> dict[str, str]:
    found = list(frame.f_locals.items())
    shown = {str(name): bounded_repr(value) for name, value in found[:LOCALS_MAX]}
    if len(found) > LOCALS_MAX:
        shown["..."] = f"<{len(found) - LOCALS_MAX} more>"
    return shown


def _traceback_text(error: BaseException) -> str:
    try:
        # Only the frames of the attempt: those above it belong to the pool and say nothing to the user.
        summary = traceback.TracebackException(type(error), error, _below_ours(error.__traceback__), compact=True)
        return shorten("".join(summary.format()), TEXT_CHARS_MAX)
    except BaseException as trouble:  # noqa: BLE001  a source line or an attribute of the exception that raises
        why = type_name(type(trouble))
        return f"{type_name(type(error))}: {text_of(error)}\n(its traceback could not be formatted: {why})\n"


def _below_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not ours, or all of it where every frame is."""
    below = trace
    while below is not None and _is_ours(below.tb_frame):
        below = below.tb_next
    return below if below is not None else trace
