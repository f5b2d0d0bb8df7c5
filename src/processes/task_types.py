"""Where 7.0.4 had its types about tasks; they live in `processes.task`, `processes.report` and `processes.events`."""

from processes.events import TaskStatus
from processes.report import TaskResult
from processes.task import TaskDependency

__all__ = ["TaskDependency", "TaskResult", "TaskStatus"]
