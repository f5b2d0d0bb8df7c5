"""Where 7.0.4 had what configures a mail; it lives in `processes.comms.email` and `processes.comms.html`."""

from processes.comms import HTMLEmailStyle, SMTPConfig

__all__ = ["HTMLEmailStyle", "SMTPConfig"]
