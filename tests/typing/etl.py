"""An ETL in child processes: tasks of every kind, the run, and what its report says of each."""

import logging
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, assert_never, assert_type

from processes import (
    AttemptRecord,
    ErrorData,
    ExceptionData,
    FrameData,
    Process,
    ProcessExecutionReport,
    ProcessPool,
    RunInfo,
    Task,
    TaskDependency,
    TaskReportEntry,
    TaskResult,
    TaskStatus,
    Usage,
    WorkerCrashedError,
)


class Lookup:
    """A callable object."""

    def __call__(self, rows: list[int], *, factor: float = 1.0) -> list[float]:
        return [row * factor for row in rows]


def extract(day: str) -> list[int]:
    logging.getLogger("etl").info("reading %s", day)
    return [3, 1, 2]


def fail(rows: list[int]) -> None:
    raise ValueError(rows)


async def load(rows: list[float]) -> int:
    return len(rows)


def passed(total: int) -> int:
    return total


def wait(attempt: int) -> float:
    return 0.01 * attempt


def tasks() -> list[Task]:
    after: Callable[[str], list[TaskDependency]] = lambda name: [TaskDependency(name, True)]  # noqa: E731
    return [
        Task("extract", extract, Path("etl.log"), args=("2026-11-24",), timeout=60, memory_limit="1GiB"),
        Task("scale", Lookup(), "etl.log", kwargs={"factor": 2.0}, dependencies=after("extract"), retry_delay=wait),
        Task("load", load, dependencies=after("scale"), retries=2, retry_on=(OSError, WorkerCrashedError)),
        Task("fail", fail, dependencies=after("extract"), keep_result=False, capture_output=True),
        Task(
            "after",
            passed,
            dependencies=[
                TaskDependency("load", use_result_as_additional_kwargs=True, additional_kwarg_name="total"),
                TaskDependency("fail"),
            ],
        ),
    ]


def told(entry: TaskReportEntry) -> str:
    """A match over the status is exhaustive."""
    match entry.status:
        case TaskStatus.SUCCESS:
            return f"{entry.result}"
        case TaskStatus.ERRORED:
            return entry.error.exception_type if entry.error else "?"
        case TaskStatus.SKIPPED | TaskStatus.PENDING:
            return entry.why
        case _ as never:
            assert_never(never)


def look_at(entry: TaskReportEntry) -> None:
    """Each field of an entry has its type."""
    assert_type(entry.name, str)
    assert_type(entry.args, tuple[Any, ...])
    assert_type(entry.status, TaskStatus)
    assert_type(entry.elapsed_seconds, float)
    assert_type(entry.attempts, int)
    assert_type(entry.error, ErrorData | None)
    assert_type(entry.exception, BaseException | None)
    assert_type(entry.started_at, datetime | None)
    assert_type(entry.worker_pid, int | None)
    assert_type(entry.usage, Usage | None)
    assert_type(entry.attempt_log, tuple[AttemptRecord, ...])
    if entry.usage is not None:
        assert_type(entry.usage.peak_memory, int | None)
        assert_type(entry.usage.cpu_user, float | None)
    for attempt in entry.attempt_log:
        assert_type(attempt.seconds, float)
        assert_type(attempt.usage, Usage | None)
    if entry.error is not None:
        assert_type(entry.error.traced_vars, dict[str, str])
        assert_type(entry.error.downstream_impact, list[str])
        for exception in entry.error.chain:
            assert_type(exception, ExceptionData)
            assert_type(exception.frames, tuple[FrameData, ...])


def look_at_task(task: Task) -> None:
    """Each attribute has the type of what it was made of."""
    assert_type(task.name, str)
    assert_type(task.kwargs, dict[str, Any])
    assert_type(task.dependencies, list[TaskDependency])
    assert_type(task.log_path, str | None)
    assert_type(task.retries, int)
    assert_type(task.timeout, float | None)
    for dependency in task.dependencies:
        assert_type(dependency.task_name, str)


def main() -> int:
    with Process(tasks(), "nightly", redact=["ssn"]) as process:
        assert_type(process, Process)
        process.add_task(Task("again", sum, args=([1, 2],)))
        mapped = Task.map("power", pow, [2, 3], (4, 5), timeout=60, memory_limit="1GiB")
        assert_type(mapped, list[Task])
        for task in mapped:
            process.add_task(task)
        process.add_task_dependency("again", TaskDependency("extract"))
        assert_type(process.get_task("again").logger, logging.Logger)
        assert_type(process.get_dependant_tasks("extract"), list[Task])
        process.check(parallel=True)
        look_at_task(process.get_task("load"))
        report = process.run(ProcessPool(2, start_method="forkserver", max_tasks_per_child=10), deadline=60.0)
        results = process.runner.results
    assert_type(report, ProcessExecutionReport)
    assert_type(report.entries, dict[str, TaskReportEntry])
    assert_type(report.successes, dict[str, TaskReportEntry])
    assert_type(report.run, RunInfo | None)
    assert_type(report.warnings, tuple[str, ...])
    assert_type(results["load"], TaskResult)
    assert_type(results["load"].worked, bool)
    for entry in report.entries.values():
        look_at(entry)
    said = {name: told(entry) for name, entry in report.entries.items()}
    expected = {
        "extract": "[3, 1, 2]",
        "scale": "[6.0, 2.0, 4.0]",
        "load": "3",
        "fail": "ValueError",
        "after": "it depends on 'fail', which failed",
        "again": "3",
        "power[0]": "16",
        "power[1]": "243",
    }
    return 0 if said == expected else 1


if __name__ == "__main__":
    sys.exit(main())
