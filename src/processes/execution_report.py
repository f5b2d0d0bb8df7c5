"""Where 7.0.4 had its report; it lives in `processes.report`."""

from processes.events import TaskStatus
from processes.report import ProcessExecutionReport, TaskReportEntry

__all__ = ["ProcessExecutionReport", "TaskReportEntry", "TaskStatus"]
