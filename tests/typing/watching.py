"""A program that watches its run, and catches what may end it."""

import sys
from datetime import datetime
from typing import assert_never, assert_type

from processes import (
    CircularDependencyError,
    DependencyNotFoundError,
    MemoryLimitError,
    Process,
    ProcessesError,
    ProcessExecutionReport,
    ProcessPool,
    RemoteTaskError,
    RunFinished,
    RunStarted,
    RunTerminated,
    Task,
    TaskCheckError,
    TaskDependency,
    TaskFailedError,
    TaskFinished,
    TaskNotFoundError,
    TaskReportEntry,
    TaskRetried,
    TaskStarted,
    TaskTimeoutError,
    UnpicklableError,
    WorkerCrashedError,
    WorkerStartError,
)

seen: list[str] = []


def watch(event: RunStarted | TaskStarted | TaskRetried | TaskFinished | RunFinished) -> None:
    """A match over the events is exhaustive."""
    match event:
        case RunStarted():
            assert_type(event.tasks, int)
            seen.append(event.process_name)
        case TaskStarted():
            assert_type(event.worker_pid, int | None)
            assert_type(event.at, datetime)
        case TaskRetried():
            assert_type(event.delay, float)
        case TaskFinished():
            assert_type(event.entry, TaskReportEntry)
            seen.append(event.entry.name)
        case RunFinished():
            assert_type(event.report, ProcessExecutionReport)
        case _:
            assert_never(event)


def why(error: BaseException | None) -> str:
    """The facts of each error have their types."""
    match error:
        case TaskTimeoutError():
            assert_type(error.timeout, float)
            return f"{error.task_name} {error.is_deadline}"
        case MemoryLimitError():
            assert_type(error.used, int)
            return error.task_name
        case WorkerCrashedError():
            assert_type(error.signal, str | None)
            assert_type(error.exitcode, int | None)
            assert_type(error.peak_memory, int | None)
            return f"{error.pid} {error.attempt} {error.seconds}"
        case UnpicklableError():
            return f"{error.task_name} {error.what} {error.path} {error.kind} {error.reason}"
        case TaskCheckError() | TaskFailedError() | TaskNotFoundError():
            return error.task_name
        case RemoteTaskError():
            return error.exception_type + error.traceback_str
        case DependencyNotFoundError():
            assert_type(error.missing, tuple[tuple[str, str], ...])
            return error.missing_dep
        case _:
            return str(error)


def run(process: Process) -> ProcessExecutionReport | None:
    """What ends a run has the report so far."""
    try:
        return process.run(ProcessPool(1, initializer=seen.append, initargs=("there",)), on_event=watch)
    except WorkerStartError as error:
        assert_type(error.report, ProcessExecutionReport | None)
        return error.report
    except RunTerminated as stopped:
        assert_type(stopped.signal, str)
        assert_type(stopped.report, ProcessExecutionReport | None)
        return stopped.report
    except ExceptionGroup as group:
        seen.extend(map(why, group.exceptions))
        return None
    except ProcessesError:
        return None


def main() -> int:
    try:
        Process([Task("a", int, dependencies=[TaskDependency("b")])])
    except (DependencyNotFoundError, CircularDependencyError) as error:
        seen.append(why(error))
    run(Process([Task("a", int), Task("c", int)], "watched"))
    return 0 if seen == ["b", "watched", "a", "c"] else 1


if __name__ == "__main__":
    sys.exit(main())
