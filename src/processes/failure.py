"""
An exception captured as plain data, in the process where it lives.

Runs in the child, and in the caller for sequential and thread mode. The capture cannot fail, and a value's repr cannot
grow it: what it returns can always travel and always be shown.
"""

from __future__ import annotations

import contextlib
import linecache
import math
import os
import re
import reprlib
import sys
import traceback
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from processes.redaction import DEFAULT as DEFAULT_REDACTION
from processes.redaction import REDACTED, Redaction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

#: Limits of a failure's locals: the number shown, and characters of each. A frame with more says so.
LOCALS_MAX = 100
LOCAL_CHARS_MAX = 2_000

#: Characters of an exception's own text, and of a traceback: the ends are kept, the middle is cut.
TEXT_CHARS_MAX = 100_000

#: After so many seconds no further value is asked for its repr; and so many characters are kept of all of them.
CAPTURE_S = 1.0
CAPTURE_CHARS_MAX = 1_000_000

#: Limits of the chain: exceptions in all, in a row, and members of a group; groups within groups, notes; frames of an
#: exception, of which the first and last half are kept; of each of these frames its locals and the characters of each,
#: and of its source.
EXCEPTIONS_MAX = 200
CHAIN_MAX = 20
GROUP_DEPTH_MAX = 5
NOTES_MAX = 20
FRAMES_MAX = 20
FRAME_LOCALS_MAX = 30
FRAME_LOCAL_CHARS_MAX = 300
SOURCE_CHARS_MAX = 500

#: How the builtin exceptions make their text, which runs nobody's code where their arguments are plain.
_BUILTIN_STR = frozenset({kind.__str__ for kind in (BaseException, KeyError, OSError, ImportError)})
_PLAIN_ARGS = frozenset({type(None), bool, int, float, str, bytes})

_NUMBERS = frozenset({int, float})
_TELLING_NOTHING = frozenset({type(None), bool})

_STDLIB_FOLDER = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Rendered(str):
    """What is known of an argument whose object stayed in another process: its repr, which it shows as its own."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Failure(NamedTuple):
    """A failure as plain data: scalars, text, and tuples and dicts of these."""

    #: The exception's type, qualified by its module unless it is a builtin.
    exception_type: str
    #: `str()` of the exception.
    exception: str
    #: The full traceback, causes and contexts included.
    traceback_str: str
    #: {name: bounded repr} of the chosen frame's locals.
    traced_vars: dict[str, str] = {}  # noqa: RUF012  nobody changes one
    #: "file:line" of the chosen frame, the line being the traceback's.
    traced_vars_location: str = ""
    #: The fields of each `ExceptionData` of the chain, as tuples.
    chain: tuple[tuple[object, ...], ...] = ()
    #: The repr of each injected argument, in the order of the dependencies.
    injected: tuple[str, ...] = ()
    #: "file:line" where a task was that was killed or crashed.
    stuck_at: str = ""


class Capture:
    """
    One exception, captured step by step: first what is sure, then what runs the user's code.

    Args:
        error: The exception, with the traceback it was caught with.
        frame_filter: Take the locals of the innermost frame whose file name contains this text; without it, of the
            innermost frame of the user's own code. Where none fits, of the innermost frame that is not ours.
        redaction: What is not to be shown.
    """

    def __init__(
        self, error: BaseException, frame_filter: str | None = None, redaction: Redaction = DEFAULT_REDACTION
    ) -> None:
        """Nothing is looked at yet."""
        self._error = error
        self._redaction = redaction
        frames = [step for step in _steps(error.__traceback__) if not _is_ours(step[0])]
        self._chosen = _choose(frames, frame_filter)
        self._give_up_at = math.inf
        self._room = CAPTURE_CHARS_MAX

    @property
    def is_plain(self) -> bool:
        """Whether making its text runs no code of the user's."""
        kind = type(self._error)
        return kind.__str__ in _BUILTIN_STR and all(type(arg) in _PLAIN_ARGS for arg in self._error.args)

    def type_and_place(self) -> Failure:
        """What can be said without running any code of the exception's own: it may hang, or end this process."""
        name = type_name(type(self._error))
        frames = "".join(traceback.format_tb(_below_ours(self._error.__traceback__)))
        text = f"<its text is not known: str() of this {name} never came to its end>"
        heading = "Traceback (most recent call last):\n" if frames else ""
        return Failure(name, text, self._redaction.text(f"{heading}{frames}{name}: {text}\n"))

    def text_and_traceback(self) -> Failure:
        """Type, text and traceback."""
        error, redact = self._error, self._redaction.text
        name, text = type_name(type(error)), redact(text_of(error))
        return Failure(name, text, redact(_traceback_text(error)))

    def whole(self, known: Failure, injected: Sequence[object] = ()) -> Failure:
        """
        Everything: also locals and arguments, whose reprs are the user's code. It takes about CAPTURE_S at most,
        unless a single repr takes longer.

        Args:
            known: What `text_and_traceback` returned.
            injected: Results of dependencies that were among the arguments.
        """
        self._give_up_at = monotonic() + CAPTURE_S
        chosen = self._chosen
        return known._replace(
            traced_vars=self._locals_of(chosen[0], LOCALS_MAX, LOCAL_CHARS_MAX) if chosen else {},
            traced_vars_location=f"{chosen[0].f_code.co_filename}:{chosen[1]}" if chosen else "",
            injected=tuple(self._shown("", value, LOCAL_CHARS_MAX) for value in injected),
            chain=self._chain(),
        )

    def _chain(self) -> tuple[tuple[object, ...], ...]:
        try:
            return self._chain_of(self._error, set(), 0)
        except BaseException:  # noqa: BLE001  foreign code: a class of the user's may make `__cause__` what it likes
            return ()

    def _shown(self, name: str, value: object, limit: int) -> str:
        if monotonic() > self._give_up_at:
            return f"<not shown: showing what stood beside it took over {CAPTURE_S:.0f} s>"
        if self._redaction.is_secret(name, is_number=type(value) in _NUMBERS) and type(value) not in _TELLING_NOTHING:
            return REDACTED  # It is not even asked.
        return self._within_room(self._redaction.text(bounded_repr(value, limit)))

    def _within_room(self, text: str) -> str:
        """The text, as long as all of them together are not too long."""
        self._room -= len(text)
        return text if self._room > 0 else "<not shown: what stood beside it took all the room>"

    def _locals_of(self, frame: FrameType, count: int, limit: int) -> dict[str, str]:
        found = list(frame.f_locals.items())
        shown = {str(name): self._shown(str(name), value, limit) for name, value in found[:count]}
        if len(found) > count:
            shown["..."] = f"<{len(found) - count} more>"
        return shown

    # ---- the chain ---------------------------------------------------------------------------------------------------

    def _chain_of(self, error: BaseException, seen: set[int], depth: int) -> tuple[tuple[object, ...], ...]:
        """An exception, its cause or context, and so on; each once."""
        chain: list[tuple[object, ...]] = []
        relation, current = "", error
        while id(current) not in seen and len(chain) < CHAIN_MAX and len(seen) < EXCEPTIONS_MAX:
            seen.add(id(current))
            chain.append(self._link(relation, current, seen, depth))
            if current.__cause__ is not None:
                relation, current = "cause", current.__cause__
            elif current.__context__ is not None and not current.__suppress_context__:
                relation, current = "context", current.__context__
            else:
                break
        return tuple(chain)

    def _link(self, relation: str, error: BaseException, seen: set[int], depth: int) -> tuple[object, ...]:
        redact = self._redaction.text
        steps = list(_steps(_below_ours(error.__traceback__)))
        left_out = max(0, len(steps) - FRAMES_MAX)
        if left_out:
            steps = steps[: FRAMES_MAX // 2] + steps[-FRAMES_MAX // 2 :]
        members: tuple[object, ...] = ()
        if isinstance(error, BaseExceptionGroup) and depth < GROUP_DEPTH_MAX:
            members = tuple(self._chain_of(member, seen, depth + 1) for member in error.exceptions[:CHAIN_MAX])
        return (
            relation,
            type_name(type(error)),
            self._within_room(redact(text_of(error))),
            tuple(self._within_room(redact(note)) for note in _notes_of(error)),
            tuple(self._frame(frame, line) for frame, line in steps),
            left_out,
            members,
        )

    def _frame(self, frame: FrameType, line: int) -> tuple[object, ...]:
        code = frame.f_code
        source = ""
        with contextlib.suppress(Exception):  # A loader of the user's own may be asked.
            source = linecache.getline(code.co_filename, line, frame.f_globals).strip()[:SOURCE_CHARS_MAX]
        is_users = not _is_ours(frame) and not _is_library(code.co_filename)
        shown = self._locals_of(frame, FRAME_LOCALS_MAX, FRAME_LOCAL_CHARS_MAX) if is_users else {}
        return code.co_filename, line, code.co_qualname, self._redaction.text(source), shown


def capture(
    error: BaseException,
    frame_filter: str | None = None,
    redaction: Redaction = DEFAULT_REDACTION,
    injected: Sequence[object] = (),
) -> Failure:
    """Everything worth knowing of an exception, at once: see `Capture`."""
    found = Capture(error, frame_filter, redaction)
    return found.whole(found.text_and_traceback(), injected)


def _notes_of(error: BaseException) -> list[str]:
    """What `add_note` added; a class of the user's may put anything there."""
    try:
        notes: tuple[object, ...] = tuple(error.__notes__)[:NOTES_MAX]
    except Exception:  # noqa: BLE001  foreign code; most have none
        return []
    return [shorten(note, LOCAL_CHARS_MAX) if isinstance(note, str) else bounded_repr(note) for note in notes]


def let_go(error: BaseException) -> None:
    """Free the locals of the frames that an exception passed: they are the user's memory."""
    traceback.clear_frames(error.__traceback__)
    if sys.version_info < (3, 13):  # What was read of a frame's locals is kept with it until it is read again.
        for frame, _ in _steps(error.__traceback__):
            if frame.f_code.co_name != "<module>":
                frame.f_locals  # noqa: B018


def of_error(error: BaseException, stack: Stack | None = None) -> Failure:
    """An error that was never raised where it could be traced: a death, a time-out. `stack` is where the task was."""
    name, text = type_name(type(error)), text_of(error)
    above = "" if stack is None else f"{stack.text}\n\n"
    return Failure(name, text, f"{above}{name}: {text}\n", stuck_at="" if stack is None else stack.place)


class Stack(NamedTuple):
    """Where a process was, as faulthandler wrote it."""

    #: For people: what is known, or why nothing is.
    text: str
    #: "file:line" of the innermost frame of the user's own code; "" where it is not known.
    place: str = ""


_STACK_FRAME = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')


def read_stack(dump: str, heading: str) -> Stack | None:
    """
    What faulthandler wrote of a worker, without the frames that are ours; None where it wrote nothing.

    Args:
        dump: "Current thread 0x... (most recent call first):" and lines of frames, for each thread.
        heading: What the text begins with.
    """
    lines: list[str] = []
    places: list[str] = []
    is_current = False
    for line in dump.splitlines():
        found = _STACK_FRAME.fullmatch(line)
        if found is None:
            if "(most recent call first)" in line:
                # Of all threads it is the task's own that counts: the main one, which stands last.
                is_current, places = True, []
                lines.append(line.partition(" 0x")[0] + " (most recent call first):")
            elif line.startswith("Fatal Python error"):
                lines.append(line)
            continue
        if found[1].startswith(_PACKAGE_FOLDER) or found[1].startswith("<frozen "):
            continue
        lines.append(line)
        if is_current:
            places.append(f"{found[1]}:{found[2]}")
    if not lines:
        return None
    users = [place for place in places if not _is_library(place)]
    return Stack("\n".join([heading, *lines]), (users or places or [""])[0])


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


def bounded_repr(value: object, limit: int = LOCAL_CHARS_MAX) -> str:
    """`repr()` that cannot raise and cannot grow over `limit` characters or so."""
    if type(value) is Rendered:
        return shorten(str(value), limit + 100)
    try:
        return shorten(_bounded.repr(value), limit + 100)
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
    """
    Whether a file was installed rather than written by the user; a synthetic name ("<stdin>") is the user's.

    All below `sys.base_prefix` would be too much: with a system's own Python that is /usr, and an application may well
    live in /usr/local/app or /usr/src/app.
    """
    return (
        "site-packages" in filename
        or "dist-packages" in filename
        or ".venv" in filename
        or filename.startswith((_STDLIB_FOLDER, "<frozen "))
    )


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
