"""A report sent by mail."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from processes.comms.html import HTMLEmailStyle, render_html
from processes.comms.text import render_text, subject_of
from processes.report import ProcessExecutionReport, ReportChannel, ReportContent

if TYPE_CHECKING:
    import ssl

    from processes.comms.smtp import Route

Security: TypeAlias = Literal["starttls", "ssl", "none"]

#: What `security` may be.
_SECURITIES: tuple[Security, ...] = ("starttls", "ssl", "none")

# RFC 8314: mail is submitted there by TLS from the first byte.
_TLS_PORT = 465
_SMTP_PORT = 25

_CRLF = "\r\n"

# What fits on a line beside the header's name: RFC 5322 asks for 78 in all, and forbids more than 998.
_LINE_CHARACTERS = 70

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

# What this leaves out (comments, quoted local parts) is valid in RFC 5322, but parsers disagree about it, and who
# writes it mostly meant something else.
_ADDR_SPEC = re.compile(r"""[^\s<>,;:()"\[\]\\@]+ (?: @ [^\s<>,;()"\\@]+ )?""", re.VERBOSE)


@dataclass
class SMTPConfig:
    """
    The mail server, the sender, the recipients. It is checked when a mail is sent, so it may be changed until then.

    Without `security` it is derived: port 465 is "ssl"; `secure`, or credentials, mean "starttls"; anything else is
    sent in clear text. What is to be encrypted is never sent otherwise, and certificates are checked.
    """

    __module__ = "processes"

    #: (host, port), or a host alone: then the port is 465 with security="ssl", or else 25.
    mailhost: tuple[str, int] | str
    #: "user@example.com", or "Name <user@example.com>".
    fromaddr: str
    #: Such addresses; or one.
    toaddrs: list[str] | tuple[str, ...] | str
    #: (user, password). They are not sent in clear text, unless with `allow_plaintext_login`.
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    #: TLS: () as the system has it; (keyfile,) or (keyfile, certfile) with a client certificate, a single file holding
    #: both in PEM; (None, None, context) with an `ssl.SSLContext` of your own, for a private authority, say.
    secure: tuple[object, ...] | None = None
    #: For each step (connecting, a command and its answer), in seconds; the whole send may take six times as long.
    timeout: float = 5
    #: "starttls" (TLS or nothing), "ssl" (TLS from the first byte) or "none" (clear text).
    security: Security | None = field(default=None, kw_only=True)
    #: Whether the network may see the password.
    allow_plaintext_login: bool = field(default=False, kw_only=True)


class EmailChannel(ReportChannel):
    """Sends a report as one mail to all recipients, as plain text and as HTML."""

    __module__ = "processes"

    def __init__(
        self, smtp_config: SMTPConfig, style: HTMLEmailStyle | None = None, content: ReportContent | None = None
    ) -> None:
        """
        Nothing is checked or sent yet.

        Args:
            smtp_config: Server, sender, recipients.
            style: Colours and language; by default neutral and English.
            content: What to tell of each failure; by default everything.
        """
        self.smtp_config = smtp_config
        self.style: HTMLEmailStyle = HTMLEmailStyle() if style is None else style
        self.content: ReportContent = ReportContent() if content is None else content

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        """
        Send the mail; only its failures with `errors_only`. A server that is slow or silent is given up.

        Raises:
            TypeError: A value of the configuration has a wrong type.
            ValueError: A value of the configuration makes no sense; nothing was sent.
            ReportDeliveryError: The mail did not reach every recipient; its text says why, and what to do.
        """
        from processes.comms.smtp import deliver

        config = self.smtp_config
        sender, recipients = _addresses(config)
        route = _route(config, sender, recipients)
        # All of it before connecting: what cannot be rendered leaves no half of a conversation behind.
        rendered = self._rendered(report, errors_only=errors_only)
        deliver(route, _message(sender, recipients, rendered, utf8=route.needs_smtputf8))

    def _rendered(self, report: ProcessExecutionReport, *, errors_only: bool) -> _Rendered:
        now = datetime.now(UTC).astimezone()
        language = self.style.language
        subject = subject_of(report, language=language, errors_only=errors_only, day=now.date())
        text = render_text(report, language=language, content=self.content, errors_only=errors_only, generated_at=now)
        html = render_html(report, style=self.style, content=self.content, errors_only=errors_only, generated_at=now)
        return _Rendered(now, subject, text, html)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What a mail says."""

    at: datetime
    #: One line.
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class _Address:
    """One sender or recipient."""

    #: Empty, or what stands before the address.
    name: str
    #: The address alone.
    spec: str

    def header(self, *, utf8: bool) -> str:
        """As it stands in a header."""
        from email.header import Header
        from email.utils import quote

        if not self.name:
            return self.spec
        if len(self.name) <= _LINE_CHARACTERS and (utf8 or self.name.isascii()):
            return f'"{quote(self.name)}" <{self.spec}>'
        return f"{Header(self.name, 'utf-8').encode(linesep=_CRLF)} <{self.spec}>"

    @property
    def domain(self) -> str:
        """For a Message-ID, so in ASCII."""
        domain = self.spec.partition("@")[2].strip("[]")
        return domain if domain and domain.isascii() else "localhost"


def _message(sender: _Address, recipients: list[_Address], rendered: _Rendered, *, utf8: bool) -> bytes:
    """A mail as it goes over the wire; `utf8` where its addresses are beyond ASCII."""
    from email.message import EmailMessage
    from email.policy import SMTP
    from email.utils import formatdate, make_msgid

    message = EmailMessage(SMTP)
    message["Date"] = formatdate(rendered.at.timestamp())
    # With a domain: without, the name server is asked for one.
    message["Message-ID"] = make_msgid(domain=sender.domain)
    # RFC 3834: no one's absence note answers.
    message["Auto-Submitted"] = "auto-generated"
    # Base64, since no server may touch that, whatever it thinks of long lines or 8-bit characters.
    message.set_content(rendered.text, cte="base64")
    message.add_alternative(rendered.html, subtype="html", cte="base64")
    # What people have written is not left to EmailMessage: it leaves brackets and commas of encoded names as they are,
    # so that they mean something, loses spaces between encoded words, and folds no line that has no space.
    head = (
        f"From: {sender.header(utf8=utf8)}",
        f"To: {_listed([recipient.header(utf8=utf8) for recipient in recipients])}",
        f"Subject: {_folded(rendered.subject)}",
    )
    return "".join(line + _CRLF for line in head).encode() + message.as_bytes()


def _listed(addresses: list[str]) -> str:
    """On one line where there is room, as in 7.0.4; or one a line."""
    together = ",".join(addresses)
    return together if len(together) <= _LINE_CHARACTERS else f",{_CRLF} ".join(addresses)


def _folded(subject: str) -> str:
    from email.header import Header

    is_plain = subject.isascii() and all(len(word) <= _LINE_CHARACTERS for word in subject.split())
    return Header(subject, "us-ascii" if is_plain else "utf-8", header_name="Subject").encode(linesep=_CRLF)


def _route(config: SMTPConfig, sender: _Address, recipients: list[_Address]) -> Route:
    """
    What the configuration means.

    Raises:
        TypeError: A value has a wrong type.
        ValueError: A value makes no sense.
    """
    from processes.comms.smtp import Route

    host, port = _server(config)
    _check_timeout(config.timeout)
    credentials = _credentials(config.credentials)
    security = _security(config, port)
    return Route(
        host,
        port,
        security,
        None if security == "none" else _tls_context(config.secure),
        credentials,
        config.timeout,
        sender.spec,
        tuple(recipient.spec for recipient in recipients),
    )


def _server(config: SMTPConfig) -> tuple[str, int]:
    match config.mailhost:
        case str() as host:
            port: object = _TLS_PORT if config.security == "ssl" else _SMTP_PORT
        case (str() as host, port):
            pass
        case _:
            raise TypeError(f"mailhost must be a host or (host, port), got {config.mailhost!r}")
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"The port in mailhost must be an int, got {port!r}")
    if not 0 < port < 2**16:
        raise ValueError(f"The port in mailhost must be from 1 to 65535, got {port}")
    if host.count(":") == 1:
        raise ValueError(f"mailhost must be a host or (host, port), got {host!r}")
    if not host or not host.isprintable() or " " in host:
        raise ValueError(f"The host in mailhost must be a name or an address, got {host!r}")
    return host, port


def _addresses(config: SMTPConfig) -> tuple[_Address, list[_Address]]:
    """The sender, the recipients."""
    given = [config.toaddrs] if isinstance(config.toaddrs, str) else config.toaddrs
    if not isinstance(given, Iterable):
        raise TypeError(f"toaddrs must be a list of addresses or one address, got {given!r}")
    recipients = [_address(f"toaddrs[{index}]", text) for index, text in enumerate(given)]
    if not recipients:
        raise ValueError("toaddrs is empty: name at least one recipient.")
    return _address("fromaddr", config.fromaddr), recipients


def _address(what: str, text: object) -> _Address:
    from email.utils import unquote

    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, got {text!r}")
    plain = text.strip(" ")
    name, bracket, rest = plain.partition("<")
    spec = rest.removesuffix(">") if bracket else plain
    malformed = bracket and not rest.endswith(">")
    if malformed or _CONTROL.search(plain) or not _ADDR_SPEC.fullmatch(spec) or not spec.isprintable():
        raise ValueError(
            f"{what} is no mail address: {text!r}. Write 'user@example.com' or 'Name <user@example.com>', "
            "several as a list."
        )
    return _Address(unquote(name.strip()) if bracket else "", spec)


def _check_timeout(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not (0 < timeout < math.inf):
        raise TypeError(f"timeout must be a positive number of seconds, got {timeout!r}")


def _credentials(credentials: object) -> tuple[str, str] | None:
    match credentials:  # No message repeats them.
        case None:
            return None
        case (str() as user, str() as password):
            if not (user + password).isascii():
                raise ValueError("credentials must be ASCII: smtplib cannot send others.")
            return user, password
        case _:
            raise TypeError("credentials must be (user, password), both str, or None.")


def _security(config: SMTPConfig, port: int) -> Security:
    if config.security is not None and config.security not in _SECURITIES:
        raise ValueError(f"security must be one of {[*_SECURITIES]} or None, got {config.security!r}")
    if config.security == "none" and config.secure is not None:
        raise ValueError('secure asks for TLS and security="none" for clear text: drop one of them.')
    if config.security == "none" and config.credentials is not None and not config.allow_plaintext_login:
        raise ValueError(
            'credentials would be sent in clear text with security="none": use "starttls" or "ssl", '
            "or say allow_plaintext_login=True if the network may see them."
        )
    if config.security is not None:
        return config.security
    if port == _TLS_PORT:
        return "ssl"
    has_secrets = config.credentials is not None and not config.allow_plaintext_login
    return "starttls" if config.secure is not None or has_secrets else "none"


def _tls_context(secure: object) -> ssl.SSLContext:
    import ssl

    if not (secure is None or (isinstance(secure, tuple | list) and len(secure) <= 3)):
        raise TypeError(
            f"secure must be (), (keyfile,), (keyfile, certfile), (None, None, context) or None, got {secure!r}"
        )
    keyfile, certfile, context = (*(secure or ()), None, None, None)[:3]
    if context is None:
        context = ssl.create_default_context()
        if keyfile or certfile:
            _load_certificate(context, keyfile, certfile)
    elif keyfile or certfile:
        raise ValueError("secure has files and a context: load them into it with context.load_cert_chain.")
    elif not isinstance(context, ssl.SSLContext):
        raise TypeError(f"secure[2] must be an ssl.SSLContext, got {context!r}")
    return context


def _load_certificate(context: ssl.SSLContext, keyfile: str | None, certfile: str | None) -> None:
    try:
        # With a password, if an empty one: else one would be asked for at the terminal when the key is encrypted.
        context.load_cert_chain(certfile or keyfile or "", keyfile if certfile else None, password="")
    except OSError as error:
        raise ValueError(
            f"secure: no certificate in {certfile or keyfile!r} for the key in {keyfile or certfile!r}, or the key is "
            f"encrypted: {error}. Load it with ssl.SSLContext.load_cert_chain and use secure=(None, None, context)."
        ) from error
