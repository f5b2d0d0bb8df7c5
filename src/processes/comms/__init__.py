"""
How a report leaves the program: as a mail, or posted to a URL.

A name is loaded when it is first asked for: who sends no mail does not wait for what mails need.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processes.comms.email import EmailChannel, SMTPConfig
    from processes.comms.html import HTMLEmailStyle
    from processes.comms.webhook import WebhookChannel, WebhookConfig
    from processes.report import ReportChannel, ReportContent

__all__ = [
    "EmailChannel",
    "HTMLEmailStyle",
    "ReportChannel",
    "ReportContent",
    "SMTPConfig",
    "WebhookChannel",
    "WebhookConfig",
]


#: {public name: the module that has it}
_HOMES = {
    "EmailChannel": "processes.comms.email",
    "HTMLEmailStyle": "processes.comms.html",
    "ReportChannel": "processes.report",
    "ReportContent": "processes.report",
    "SMTPConfig": "processes.comms.email",
    "WebhookChannel": "processes.comms.webhook",
    "WebhookConfig": "processes.comms.webhook",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import importlib

    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
