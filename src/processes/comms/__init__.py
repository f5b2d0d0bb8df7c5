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


def __getattr__(name: str) -> object:
    """Load a public name: the package above knows where each lives."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    import processes

    return getattr(processes, name)


def __dir__() -> list[str]:
    """Also what is not loaded yet."""
    return sorted({*globals(), *__all__})
