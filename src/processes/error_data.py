"""A failure as plain data, as the report, the log and the channels show it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FrameData:
    """One call on the way to where an exception was raised."""

    __module__ = "processes"

    file: str
    #: Of the traceback, from 1.
    line: int
    function: str
    #: The source line, or "" where it cannot be had.
    source: str = ""
    #: {name: repr} of the locals, bounded and redacted; of frames of the user's own code only.
    locals: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExceptionData:
    """One exception of a chain."""

    __module__ = "processes"

    #: How the one before it came of it: "cause" (`raise ... from` it), "context" (raised while it was handled); "" for
    #: the exception that ended the task, and for a member of a group.
    relation: str
    #: Qualified by its module unless it is a builtin.
    type: str
    #: `str()` of it.
    text: str
    #: What `add_note` added.
    notes: tuple[str, ...] = ()
    #: Outermost first. Of a deep recursion the middle is left out.
    frames: tuple[FrameData, ...] = ()
    #: How many frames are left out.
    frames_left_out: int = 0
    #: Of an ExceptionGroup: the chain of each member.
    members: tuple[tuple[ExceptionData, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorData:
    """What is known of a task's failure. Everything is text or plain data, whatever the task raised."""

    __module__ = "processes"

    #: Name of the task that failed.
    task_name: str = "?"
    #: Name of its function.
    function: str = "?"
    #: Positional arguments of the call, results of dependencies included. Of a result that the failed child loaded
    #: there is only its repr, as a `Rendered`.
    args: tuple[object, ...] = ()
    #: Keyword arguments; as above.
    kwargs: dict[str, object] = field(default_factory=dict)
    #: Names of all tasks that depend on it, directly or not, breadth first.
    downstream_impact: list[str] = field(default_factory=list)
    #: `str()` of the exception, without its type.
    exception: str = ""
    #: The full traceback, causes included.
    traceback_str: str = ""
    #: {name: repr} of the locals of the chosen frame, bounded in number and length.
    traced_vars: dict[str, str] = field(default_factory=dict)
    #: "file:line" of the chosen frame.
    traced_vars_location: str = ""
    #: The exception's type, qualified by its module unless it is a builtin.
    exception_type: str = ""
    #: The exception, what it came of, and so on: the traceback as data. Empty for a death and a time-out.
    chain: tuple[ExceptionData, ...] = ()
    #: "file:line" of the innermost frame of the user's own code when the task was killed or crashed; "" where it raised
    #: by itself, or where it is not known: then the traceback says why.
    stuck_at: str = ""
    #: The last lines that the task logged, of one that was killed or crashed.
    last_log_lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What a person wants to know: the traceback, the locals, what was skipped, what was logged last."""
        blocks = [self.traceback_str.rstrip() or ": ".join(filter(None, (self.exception_type, self.exception)))]
        if self.traced_vars:
            shown = [f"  {name} = {value}" for name, value in self.traced_vars.items()]
            blocks.append("\n".join([f"Locals at {self.traced_vars_location or '?'}:", *shown]))
        if self.last_log_lines:
            blocks.append("\n".join(["Logged last:", *(f"  {line}" for line in self.last_log_lines)]))
        if self.downstream_impact:
            blocks.append(f"Skipped because of it: {', '.join(self.downstream_impact)}")
        return "\n\n".join(blocks)

    def context(self) -> dict[str, object]:
        """The nine facts that a log record carries as `task_context`."""
        return {name: getattr(self, name) for name in CONTEXT_FIELDS}


#: Fixed by 7.0.4: handlers read these keys of `record.task_context` and no other may appear.
CONTEXT_FIELDS = (
    "task_name",
    "function",
    "args",
    "kwargs",
    "downstream_impact",
    "exception",
    "traceback_str",
    "traced_vars",
    "traced_vars_location",
)


def chain_data(chain: tuple[tuple[object, ...], ...]) -> tuple[ExceptionData, ...]:
    """A chain as a `Failure` carries it, as the report shows it."""
    return tuple(_exception_data(*link) for link in chain)  # type: ignore[arg-type]  # as `Capture._link` made it


def _exception_data(
    relation: str,
    kind: str,
    text: str,
    notes: tuple[str, ...],
    frames: tuple[tuple[object, ...], ...],
    left_out: int,
    members: tuple[tuple[tuple[object, ...], ...], ...],
) -> ExceptionData:
    shown = tuple(FrameData(*frame) for frame in frames)  # type: ignore[arg-type]  # as `Capture._frame` made it
    return ExceptionData(relation, kind, text, notes, shown, left_out, tuple(map(chain_data, members)))
