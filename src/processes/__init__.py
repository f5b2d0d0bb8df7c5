"""
Run a graph of Python callables in child processes that can be killed, and know afterwards what happened to each.

How a task travels, with the process boundary down the middle:

      parent                                          |   child
                                                      |
      Process.run -> graph -> scheduler <-> runner    |
                                              |       |
                                      backends.pool --+--> keeper --> worker -> attempt
                                              ^       |                 |
      report <- runner <- child <- wire ------+-------+---- outcome ----+
      logfile <- logs.Listener <- wire -------+-------+---- record -----+

1. `task`, `process`: what the user asks for is checked, as far as it can be before anything runs (`preflight`); `graph`
   orders it; `spec` is what the scheduler may know of it.
2. `scheduler` (pure) decides which attempt starts when; `runner` is the only loop and carries its decisions out.
3. `launch` starts `keeper` first, which starts, reaps and buries the workers. `backends.prepared` pickles functions and
   arguments (`blob`); `backends.pool` places attempts with workers (`child`), holds them to their limits and lays the
   blame. `backends.threads` and `backends.sequential` make attempts in the caller's process.
4. `worker` makes one attempt after another and answers by `wire`; `workplace` puts back what an attempt changed of its
   worker, part by part (`watched`).
5. An exception becomes plain data where it lives (`failure`); usage is measured there too (`usage`). `system` has what
   stands in for what a container's rules refuse of the kernel.
6. `record` keeps what became of a task; `report` says it, task by task, and `run_info` when, where and how;
   `report_json` writes it as text and reads it (`plain`: any value as JSON); `merging` makes one of several,
   `comparison` tells what changed between two.
7. `comms` sends a report: `deliver` to each channel, `email` and `webhook`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processes.backends.options import ProcessPool
    from processes.comms.email import EmailChannel, SMTPConfig
    from processes.comms.html import HTMLEmailStyle
    from processes.comms.webhook import WebhookChannel, WebhookConfig
    from processes.comparison import FigureChange, ReportComparison
    from processes.error_data import ErrorData, ExceptionData, FrameData
    from processes.events import TaskStatus
    from processes.exceptions import (
        CircularDependencyError,
        DependencyNotFoundError,
        MemoryLimitError,
        ProcessesError,
        RemoteTaskError,
        ReportDeliveryError,
        RunTerminated,
        TaskCheckError,
        TaskFailedError,
        TaskNotFoundError,
        TaskTimeoutError,
        UnpicklableError,
        WorkerCrashedError,
        WorkerStartError,
    )
    from processes.observer import RunFinished, RunStarted, TaskFinished, TaskRetried, TaskStarted
    from processes.process import Process
    from processes.record import AttemptRecord, Usage
    from processes.report import (
        Delivery,
        ProcessExecutionReport,
        ReportChannel,
        ReportContent,
        TaskReportEntry,
        TaskResult,
    )
    from processes.run_info import RunInfo
    from processes.task import Task, TaskDependency

    __version__: str

__all__ = [
    "AttemptRecord",
    "CircularDependencyError",
    "Delivery",
    "DependencyNotFoundError",
    "EmailChannel",
    "ErrorData",
    "ExceptionData",
    "FigureChange",
    "FrameData",
    "HTMLEmailStyle",
    "MemoryLimitError",
    "Process",
    "ProcessExecutionReport",
    "ProcessPool",
    "ProcessesError",
    "RemoteTaskError",
    "ReportChannel",
    "ReportComparison",
    "ReportContent",
    "ReportDeliveryError",
    "RunFinished",
    "RunInfo",
    "RunStarted",
    "RunTerminated",
    "SMTPConfig",
    "Task",
    "TaskCheckError",
    "TaskDependency",
    "TaskFailedError",
    "TaskFinished",
    "TaskNotFoundError",
    "TaskReportEntry",
    "TaskResult",
    "TaskRetried",
    "TaskStarted",
    "TaskStatus",
    "TaskTimeoutError",
    "UnpicklableError",
    "Usage",
    "WebhookChannel",
    "WebhookConfig",
    "WorkerCrashedError",
    "WorkerStartError",
    "__version__",
]

#: {public name: the module below this one that has it}
_HOMES = {
    "AttemptRecord": "record",
    "CircularDependencyError": "exceptions",
    "Delivery": "report",
    "DependencyNotFoundError": "exceptions",
    "EmailChannel": "comms.email",
    "ErrorData": "error_data",
    "ExceptionData": "error_data",
    "FigureChange": "comparison",
    "FrameData": "error_data",
    "HTMLEmailStyle": "comms.html",
    "MemoryLimitError": "exceptions",
    "Process": "process",
    "ProcessExecutionReport": "report",
    "ProcessPool": "backends.options",
    "ProcessesError": "exceptions",
    "RemoteTaskError": "exceptions",
    "ReportChannel": "report",
    "ReportComparison": "comparison",
    "ReportContent": "report",
    "ReportDeliveryError": "exceptions",
    "RunFinished": "observer",
    "RunInfo": "run_info",
    "RunStarted": "observer",
    "RunTerminated": "exceptions",
    "SMTPConfig": "comms.email",
    "Task": "task",
    "TaskCheckError": "exceptions",
    "TaskDependency": "task",
    "TaskFailedError": "exceptions",
    "TaskFinished": "observer",
    "TaskNotFoundError": "exceptions",
    "TaskReportEntry": "report",
    "TaskResult": "report",
    "TaskRetried": "observer",
    "TaskStarted": "observer",
    "TaskStatus": "events",
    "TaskTimeoutError": "exceptions",
    "UnpicklableError": "exceptions",
    "Usage": "record",
    "WebhookChannel": "comms.webhook",
    "WebhookConfig": "comms.webhook",
    "WorkerCrashedError": "exceptions",
    "WorkerStartError": "exceptions",
}


if not TYPE_CHECKING:  # or a checker would take any name for a public one

    def __getattr__(name: str) -> object:
        """
        Load a public name when it is asked for.

        Every child imports this package, and needs a third of it; looking the version up takes another 30 ms.
        """
        if name == "__version__":
            value: object = _installed_version()
        elif name in _HOMES:
            import importlib

            value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        else:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _installed_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("processes")
    except metadata.PackageNotFoundError:
        return "0.0.0-unknown"
