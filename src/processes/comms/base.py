"""Where 7.0.4 had the port; it lives in `processes.report`."""

from processes.comms import ReportChannel, ReportContent

__all__ = ["ReportChannel", "ReportContent"]
