"""Where 7.0.4 had its result types; they live in `processes.report` and `processes.events`."""

from processes.events import TaskStatus
from processes.report import TaskResult

__all__ = ["TaskResult", "TaskStatus"]
