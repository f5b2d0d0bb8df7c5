"""A failure as plain data, as the report, the log and the channels show it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ErrorData:
    """What is known of a task's failure. Everything is text or plain data, whatever the task raised."""

    __module__ = "processes"

    #: Name of the task that failed.
    task_name: str = "?"
    #: Name of its function.
    function: str = "?"
    #: Positional arguments, as given to the Task.
    args: tuple[object, ...] = ()
    #: Keyword arguments, as given to the Task.
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
