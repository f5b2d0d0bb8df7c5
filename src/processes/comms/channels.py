"""Where 7.0.4 had its channels; they live in `processes.comms.email` and `processes.comms.webhook`."""

from processes.comms import EmailChannel, ReportChannel, ReportContent, WebhookChannel

__all__ = ["EmailChannel", "ReportChannel", "ReportContent", "WebhookChannel"]
