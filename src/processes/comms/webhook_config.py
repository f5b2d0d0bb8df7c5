"""Where 7.0.4 had what configures a webhook; it lives in `processes.comms.webhook`."""

from processes.comms import WebhookConfig

__all__ = ["WebhookConfig"]
