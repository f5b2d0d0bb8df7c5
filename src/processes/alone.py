"""One task by itself: `Task.run`. Loaded when that is called, since a program that runs a Process needs none of it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from processes import logs, runner
from processes.backends.sequential import SequentialBackend
from processes.error_data import ErrorData
from processes.failure import of_error
from processes.record import elapsed
from processes.report import TaskResult
from processes.runner import Plan
from processes.spec import name_of

if TYPE_CHECKING:
    from processes.attempt import Call
    from processes.spec import TaskSpec


def run_alone(call: Call, spec: TaskSpec, logger: logging.Logger | None, impact: list[str]) -> TaskResult:
    """
    Make the attempts of a task, here and now.

    Args:
        call: What to call.
        spec: Its retries.
        logger: Takes its log, or None.
        impact: Names of the tasks that depend on it.

    Raises:
        BaseException: What broke the run off: the user's Ctrl-C.
    """
    outcome = runner.run(Plan([spec], [call], [logger], lambda _: impact), SequentialBackend())
    if outcome.broken is not None:
        raise outcome.broken
    record = outcome.records[0]
    seconds = elapsed(record.attempts)
    return TaskResult(record.status, record.handle, record.error, record.error_data, seconds, record.count)


def refused(error: KeyError, call: Call, logger: logging.Logger | None, impact: list[str]) -> TaskResult:
    """The result of a dependency cannot be had: the task has failed without an attempt."""
    failure = of_error(error)
    data = ErrorData(
        call.name,
        name_of(call.func),
        call.args,
        call.kwargs,
        impact,
        failure.exception,
        failure.traceback_str,
        exception_type=failure.exception_type,
    )
    if logger is not None:
        now = time.time()
        logger.handle(logs.task_record(logger, logging.INFO, f"Starting {call.name}.", now))
        logger.handle(logs.failure_record(logger, error, data, now))
    return TaskResult.errored(error, error_data=data)
