"""
Errors a caller can catch.

Each carries its facts as fields, reads as a sentence, and survives pickling. Runs in the parent and in the child.
"""

from __future__ import annotations

import signal as _signals
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processes.report import ProcessExecutionReport


def _restore(kind: type[ProcessesError], args: tuple[object, ...], fields: dict[str, object]) -> ProcessesError:
    """Build an error from its parts, without calling its `__init__`, whose parameters are not `args`."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


class ProcessesError(Exception):
    """Root of every error that this library raises on its own account."""

    __module__ = "processes"

    def __init_subclass__(cls) -> None:
        """Where one of ours lives is no one's business: tracebacks and pickles say `processes.TaskNotFoundError`."""
        if cls.__module__ == __name__:
            cls.__module__ = ProcessesError.__module__

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as class, message and fields: the default would call `__init__` with the message alone."""
        return _restore, (type(self), self.args, dict(self.__dict__))


class CircularDependencyError(ProcessesError):
    """Tasks wait for each other; the message shows one such circle."""


class DependencyNotFoundError(ProcessesError):
    """
    A task depends on a task that is not in the process.

    Attributes:
        task_name: The first task, in the order given, that misses a dependency.
        missing_dep: The name it misses.
        missing: Every (task name, missing name) of the process, the first one included.
    """

    def __init__(self, task_name: str, missing_dep: str, *, missing: Sequence[tuple[str, str]] | None = None) -> None:
        """Name the first gap, then all others."""
        self.task_name = task_name
        self.missing_dep = missing_dep
        self.missing: tuple[tuple[str, str], ...] = tuple(missing) if missing else ((task_name, missing_dep),)
        super().__init__("; ".join(f"Task '{task}' depends on missing task: '{gap}'" for task, gap in self.missing))


class TaskNotFoundError(ProcessesError):
    """No task of that name is in the process; `task_name` is the name asked for."""

    def __init__(self, task_name: str) -> None:
        """Name the task asked for."""
        self.task_name = task_name
        super().__init__(f"Task not found: '{task_name}'")


class TaskTimeoutError(ProcessesError, TimeoutError):
    """
    An attempt ran longer than its task's time-out, or past the run's deadline.

    Attributes:
        task_name: The task.
        timeout: The limit that was passed, in seconds.
        is_deadline: True where the limit was the whole run's deadline.
    """

    def __init__(self, message: str, *, task_name: str, timeout: float, is_deadline: bool = False) -> None:
        """Keep the facts beside the sentence."""
        self.task_name = task_name
        self.timeout = timeout
        self.is_deadline = is_deadline
        super().__init__(message)

    @classmethod
    def of_attempt(cls, task_name: str, timeout: float) -> Self:
        """An attempt passed its task's `timeout`, in seconds as the user wrote it."""
        error = cls(f"Task '{task_name}' timed out after {timeout}s", task_name=task_name, timeout=timeout)
        error.__cause__ = TimeoutError()  # As 7.0.4's had, where the wait for a thread timed out.
        return error

    @classmethod
    def of_deadline(cls, task_name: str, deadline: float) -> Self:
        """The run's `deadline`, in seconds after its start, passed while the attempt ran."""
        return cls(
            f"Task '{task_name}' was stopped: the run's deadline of {deadline}s passed",
            task_name=task_name,
            timeout=deadline,
            is_deadline=True,
        )


class MemoryLimitError(MemoryError, ProcessesError):
    """
    An attempt used more memory than its task's `memory_limit`, or most of what passed the pool's `memory_budget`.

    Sizes are in bytes.

    Attributes:
        task_name: The task.
        limit: What was allowed.
        used: What was seen of this attempt when it was stopped.
        is_budget: True where the limit was the pool's budget for all attempts together.
    """

    def __init__(self, task_name: str, limit: int, used: int, *, used_by_all: int | None = None) -> None:
        """Say the sizes; `used_by_all` is what all attempts used together, where the limit was the pool's budget."""
        self.task_name = task_name
        self.limit = limit
        self.used = used
        self.is_budget: bool = used_by_all is not None
        passed = (
            f"over its memory limit of {_mib(limit)}"
            if used_by_all is None
            else f"the most of all, when they used {_mib(used_by_all)}, over the pool's memory budget of {_mib(limit)}"
        )
        super().__init__(f"Task '{task_name}' used {_mib(used)}, {passed}")


class WorkerCrashedError(ProcessesError):
    """
    The child that ran an attempt died of a cause that was not ours.

    Attributes:
        task_name: The task whose attempt it ran.
        signal: Name of the signal that killed it, such as "SIGSEGV", or None.
        exitcode: Its exit code where it exited by itself, or None.
        pid: Its process id.
        seconds: How long the attempt had run, in seconds.
        peak_memory: The child's highest resident memory in bytes, or None where not known.
        attempt: Which of the task's attempts it was, 1 for the first.
    """

    def __init__(
        self,
        task_name: str,
        *,
        status: int,
        pid: int,
        seconds: float,
        peak_memory: int | None = None,
        attempt: int = 1,
        hint: str = "",
    ) -> None:
        """
        Say how it ended.

        `status` is -N for signal N, else an exit code, as `subprocess.Popen.returncode` has it; `hint` is what else is
        known of the cause.
        """
        self.task_name = task_name
        self.signal: str | None = signal_name(-status) if status < 0 else None
        self.exitcode: int | None = status if status >= 0 else None
        self.pid = pid
        self.seconds = seconds
        self.peak_memory = peak_memory
        self.attempt = attempt
        how = f"was killed by {self.signal}" if self.signal else f"exited with code {status}"
        peak = f", peak {peak_memory / 2**20:.0f} MiB" if peak_memory else ""
        more = f" {hint}" if hint else ""
        which = f", attempt {attempt}" if attempt > 1 else ""
        super().__init__(f"Task '{task_name}'{which}: its child (pid {pid}) {how} after {seconds:.1f} s{peak}.{more}")


class WorkerStartError(ProcessesError):
    """
    Children cannot be started, so the run was ended.

    Attributes:
        stderr: What the child wrote before it died, or the traceback of the initializer.
        report: What had happened until then, or None where the run had not begun.
    """

    def __init__(self, message: str, *, stderr: str = "") -> None:
        """Say what failed, then what the child said."""
        self.stderr = stderr
        self.report: ProcessExecutionReport | None = None
        super().__init__(f"{message}\n{stderr}".rstrip() if stderr else message)

    def __reduce__(self) -> tuple[object, ...]:
        """Leave the report out: it may hold what no pickle can."""
        return _restore, (type(self), self.args, {**self.__dict__, "report": None})


class RunTerminated(SystemExit):
    """
    The program was told to end while a run went on: by SIGTERM, or by SIGHUP when its terminal was closed.

    A SystemExit: where nobody catches it the program ends, with the exit code 128 plus the signal's number.

    Attributes:
        signal: Name of the signal, such as "SIGTERM".
        report: What had happened until then, or None where it is a task that was stopped so.
    """

    __module__ = "processes"

    def __init__(self, number: int, text: str = "") -> None:
        """Make the exit code of the signal's number."""
        super().__init__(128 + number)
        self.signal: str = signal_name(number)
        self.report: ProcessExecutionReport | None = None
        self._number = number
        self._text = text or f"the program was told to end by {self.signal}"

    def __str__(self) -> str:
        """Say why, where a SystemExit says the exit code."""
        return self._text

    def __reduce__(self) -> tuple[object, ...]:
        """Leave the report out: it may hold what no pickle can."""
        return type(self), (self._number, self._text), {**self.__dict__, "report": None}


class UnpicklableError(ProcessesError):
    """
    A value cannot travel between processes.

    Attributes:
        task_name: The task it belongs to.
        what: Which of the task's values: "args[0]", "kwargs['db']", "function", "result", ...
        reason: What the pickler said.
        path: Where in the value the trouble is: "cfg.db._lock"; "" where it was not found.
        kind: Type of what is there: "_thread.lock"; "" where it was not found.
    """

    def __init__(self, task_name: str, what: str, reason: str, *, path: str = "", kind: str = "") -> None:
        """Name task and value, then the way out."""
        self.task_name = task_name
        self.what = what
        self.reason = reason
        self.path = path
        self.kind = kind
        super().__init__(self._sentence_of_path() if path else self._sentence())

    def _sentence(self) -> str:
        way_out = (
            "Return plain data"
            if self.what == "result"
            else "Pass plain data and open files, locks and connections inside the task"
        )
        return (
            f"Task '{self.task_name}': {self.what} cannot be pickled: {self.reason}. {way_out}, "
            'or use parallel="threads".'
        )

    def _sentence_of_path(self) -> str:
        role = "argument" if self.what.startswith(("args", "kwargs")) else self.what
        article = "an" if self.kind.lstrip("_")[:1].lower() in set("aeiou") else "a"
        # The usual words say no more than the type.
        reason = "" if self.reason == f"TypeError: cannot pickle '{self.kind}' object" else f" ({self.reason})"
        way_out = "return plain data" if self.what == "result" else "open it inside the task"
        return (
            f"Task '{self.task_name}', {role} {self.path}: {article} {self.kind} cannot be pickled{reason}; {way_out}, "
            'or use parallel="threads".'
        )


class TaskCheckError(ProcessesError, ValueError):
    """
    A task that cannot run as it was made, found before anything has run.

    Attributes:
        task_name: The task.
        what: The parameter of `Task` that is at fault: "func", "log_path", "memory_limit" or "retry_delay".
    """

    def __init__(self, message: str, *, task_name: str, what: str) -> None:
        """Keep the facts beside the sentence."""
        self.task_name = task_name
        self.what = what
        super().__init__(message)


class RemoteTaskError(ProcessesError):
    """
    Stands for an exception that was raised in another process.

    Attributes:
        exception_type: The original's type, qualified by its module unless it is a builtin.
        traceback_str: The original's traceback, as text.
    """

    def __init__(self, exception_type: str, message: str, traceback_str: str = "") -> None:
        """Read like the original."""
        self.exception_type = exception_type
        self.traceback_str = traceback_str
        super().__init__(f"{exception_type}: {message}" if message else exception_type)


class TaskFailedError(ProcessesError):
    """
    Stands for what a task raised that would end a program that merely passes it on: SystemExit, KeyboardInterrupt.

    It is the `__cause__`.

    Attributes:
        task_name: The task.
    """

    def __init__(self, task_name: str, message: str) -> None:
        """Name the task and what it raised."""
        self.task_name = task_name
        super().__init__(f"Task '{task_name}' raised {message}")


class ReportDeliveryError(ProcessesError, OSError):
    """
    A report could not be sent, or not to everybody.

    An OSError, as are the errors of `smtplib` and of sockets, which programs catch around a report that they send.

    Attributes:
        host: The server it was to go through.
        port: The server's port.
        step: What failed: "connecting", "TLS handshake", "login", "RCPT TO", ...
        refused: {address: the server's answer} of recipients whom the server refused.
    """

    def __init__(
        self, message: str, *, host: str, port: int, step: str, refused: Mapping[str, str] | None = None
    ) -> None:
        """Say what happened."""
        self.host = host
        self.port = port
        self.step = step
        self.refused: dict[str, str] = dict(refused or {})
        super().__init__(message)


def signal_name(number: int) -> str:
    """Name of a signal, "SIGSEGV" for 11; "signal 40" where it has none."""
    try:
        return _signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
