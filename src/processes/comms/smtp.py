"""
One message to one mail server: in bounded time, and with an error that says where it went wrong.

Loaded when a mail is sent, not before: `smtplib` and `ssl` are slow to load. It is `smtplib` but for the waiting.
There, each byte that comes in begins the time-out anew, so that a server that drips them holds the sender for ever;
here, a `_Deadline` says before each read and write how long it may take. No thread watches, and none is left behind but
one that waits for a name server: nothing can interrupt that.
"""

from __future__ import annotations

import contextlib
import io
import re
import smtplib
import socket
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from processes.comms.limit import within
from processes.exceptions import ReportDeliveryError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from _typeshed import ReadableBuffer, WriteableBuffer

#: Time for the whole send, in time-outs. A send without trouble is eight to twelve round trips, so that a server that
#: takes half of its time for each answer is waited for, and one that takes all of it each time is not.
WHOLE_SEND = 6

# What one write may hold. TLS sends no larger record, and the time-out of an SSL socket is one for each record.
_CHUNK_BYTES = 16 * 1024

# By address: code and text of the answer.
_Refused: TypeAlias = dict[str, tuple[int, bytes]]

# How much of a server's answer an error repeats.
_ANSWER_CHARACTERS = 300

# A reply may not end what is printed, nor colour it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_CONNECTING = "connecting"
_GREETING = "waiting for the greeting"
_HELLO = "EHLO"
_STARTTLS = "STARTTLS"
_HANDSHAKE = "TLS handshake"
_LOGIN = "login"
_SENDER = "MAIL FROM"
_RECIPIENTS = "RCPT TO"
_DATA = "DATA"
_MESSAGE = "sending the message"
_ACCEPTANCE = "waiting for the message to be accepted"

# {step: what to do when it fails}
_WAY_OUT = {
    _CONNECTING: "Check host and port in SMTPConfig(mailhost=...), and that nothing on the way blocks them.",
    _GREETING: 'Check the port in SMTPConfig(mailhost=...); one where TLS comes first needs security="ssl".',
    _HELLO: "Check that SMTPConfig(mailhost=...) is a mail server that takes mail from this machine.",
    _STARTTLS: (
        'Check the port in SMTPConfig(mailhost=...): 587 is usual for STARTTLS, 465 for security="ssl"; security="none"'
        " sends in clear text, and needs allow_plaintext_login=True when there are credentials."
    ),
    _HANDSHAKE: (
        'A port without TLS from the first byte needs security="starttls", one with it security="ssl"; '
        "a context of your own goes into SMTPConfig(secure=(None, None, context))."
    ),
    _LOGIN: "Check SMTPConfig(credentials=...) and how this server wants its users to log in.",
    _SENDER: "Check SMTPConfig(fromaddr=...), whether this server wants credentials, and how large a mail it takes.",
    _RECIPIENTS: "Check SMTPConfig(toaddrs=...).",
    _DATA: "The server's answer or its log tells why.",
    _MESSAGE: "The server's answer or its log tells why.",
    _ACCEPTANCE: "The server's answer or its log tells why.",
}

_DISTRUSTED = (
    "The certificate is checked against the system's authorities and the host's name. Trust an authority of your own "
    "by SMTPConfig(secure=(None, None, ssl.create_default_context(cafile=...)))."
)
_SLOW = "A slow server needs a larger SMTPConfig(timeout=...)."
_UNKNOWN_FATE = "Whether the mail was accepted is not known."
_ASCII_ONLY = (
    "An address with letters beyond ASCII needs a server with SMTPUTF8; a domain can be written in ASCII, as xn--..."
)


@dataclass(frozen=True, slots=True)
class Route:
    """From whom, to whom, and through which server; checked."""

    host: str
    port: int
    #: "ssl" is TLS from the first byte.
    security: Literal["starttls", "ssl", "none"]
    #: None exactly with security "none".
    context: ssl.SSLContext | None
    #: User and password.
    credentials: tuple[str, str] | None = field(repr=False)
    #: For one step, in seconds.
    timeout: float
    #: Addresses alone, without names.
    sender: str
    recipients: tuple[str, ...]

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address is beyond ASCII."""
        return not "".join((self.sender, *self.recipients)).isascii()

    def scrubbed(self, text: str) -> str:
        """Without the password, as it is and as `AUTH LOGIN` and `AUTH PLAIN` write it: a server may repeat it."""
        if self.credentials is None or not self.credentials[1]:
            return text
        user, password = self.credentials
        for secret in (password, *(b64encode(form.encode()).decode() for form in (password, f"\0{user}\0{password}"))):
            text = text.replace(secret, "[redacted]")
        return text


def deliver(route: Route, message: bytes) -> None:
    """
    Send the message, whose lines end in CRLF.

    Takes one time-out at most for each step, and `WHOLE_SEND` of them for all.

    Raises:
        ReportDeliveryError: It did not reach all recipients.
    """
    with contextlib.closing(_Session(_Deadline(route.timeout))) as session:
        try:
            refused = session.run(route, message)
        except (OSError, ValueError) as error:  # ValueError: a name that is none, a challenge that is not Base64.
            # A server may repeat what it was sent, so its words leave scrubbed only, and not as the cause.
            may_tell = route.credentials is not None and isinstance(error, smtplib.SMTPException)
            raise _explained(route, session, error) from (None if may_tell else error)
    if refused:
        raise _error(route, _RECIPIENTS, refused, f"The report was mailed by {route.host}:{route.port}, but not to all")


class _Deadline:
    """How long the next read or write may take: until the step's time is up, or that of the whole send."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._whole_until = time.monotonic() + WHOLE_SEND * timeout
        self._step_until = 0.0
        self.begin_step()

    def begin_step(self) -> None:
        """The next reads and writes belong to one step."""
        self._step_until = min(time.monotonic() + self._timeout, self._whole_until)

    def left(self) -> float:
        """
        Seconds, more than none.

        Raises:
            TimeoutError: None is left.
        """
        left = self._step_until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def why(self) -> str:
        """Which limit ended it, when one did."""
        if self._step_until >= self._whole_until:
            return f"not done {WHOLE_SEND * self._timeout:g} s after the beginning"
        return f"no answer within {self._timeout:g} s"


class _TimedReader(io.RawIOBase):
    """What comes in at a socket, while there is time."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


class _Session(smtplib.SMTP):
    """
    A connection to a mail server.

    Attributes:
        step: What it is about; when it raises, what failed.
    """

    def __init__(self, deadline: _Deadline) -> None:
        # Without a host it does not connect; with a name of our own it asks no name server for it.
        super().__init__(local_hostname="localhost")
        self.deadline = deadline
        self.step = _CONNECTING

    # What smtplib reads and writes through.

    def getreply(self) -> tuple[int, bytes]:
        self.deadline.begin_step()
        if self.file is None and self.sock is not None:
            self.file = io.BufferedReader(_TimedReader(self.sock, self.deadline))
        try:
            return super().getreply()
        except smtplib.SMTPServerDisconnected as error:
            if isinstance(error.__context__, OSError):  # It says more: a time-out, a reset, a broken record of TLS.
                raise error.__context__ from None
            raise

    def send(self, s: ReadableBuffer | str) -> None:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected
        unsent = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        for start in range(0, len(unsent), _CHUNK_BYTES):
            self.deadline.begin_step()
            self.sock.settimeout(self.deadline.left())
            self.sock.sendall(unsent[start : start + _CHUNK_BYTES])

    # The steps, in order.

    def run(self, route: Route, message: bytes) -> _Refused:
        """
        All steps.

        Returns:
            {address: (code, text)} of those who did not get it; others did.
        """
        self._connect(route.host, route.port)
        if route.security == "ssl":
            self._encrypt(route)
        self.step = _GREETING
        self._expect(2, self.getreply())
        self._say_hello()
        if route.security == "starttls":
            self._start_tls(route)
        if route.credentials is not None:
            self.step = _LOGIN
            self.login(*route.credentials)
        refused = self._submit(route, message)
        # It has the mail: how it parts from us is its own affair.
        with contextlib.suppress(OSError):
            self.docmd("QUIT")
        return refused

    def _connect(self, host: str, port: int) -> None:
        failure: OSError = ConnectionError("the host has no address")
        # In a thread: the system's own limits, resolv.conf(5), come to ten seconds for each of its name servers.
        addresses = within(self.deadline.left(), lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        for family, kind, protocol, _, address in addresses:
            self.sock = socket.socket(family, kind, protocol)
            self.deadline.begin_step()
            try:
                self.sock.settimeout(self.deadline.left())
                self.sock.connect(address)
                return
            except OSError as error:
                self.sock.close()
                failure = error
        raise failure

    def _encrypt(self, route: Route) -> None:
        self.step = _HANDSHAKE
        if self.sock is None or route.context is None:  # For mypy: it is connected, and only "none" has no context.
            raise smtplib.SMTPServerDisconnected
        # Whatever came in before is not to be trusted, RFC 3207 section 4.2: not a byte in the buffer, no feature.
        self.file = None
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False
        # Not at once: should the handshake break off, the socket must be known by then to be closed.
        encrypted = route.context.wrap_socket(self.sock, server_hostname=route.host, do_handshake_on_connect=False)
        self.sock = encrypted
        self.deadline.begin_step()
        encrypted.settimeout(self.deadline.left())
        encrypted.do_handshake()  # The time-out is one for all of it.

    def _say_hello(self) -> None:
        self.step = _HELLO
        if self.sock is not None:
            self.local_hostname = _own_name(self.sock)
        self.ehlo_or_helo_if_needed()

    def _start_tls(self, route: Route) -> None:
        self.step = _STARTTLS
        if not self.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError("the server does not offer STARTTLS")
        self._expect(2, self.docmd("STARTTLS"))
        self._encrypt(route)
        self._say_hello()

    def _submit(self, route: Route, message: bytes) -> _Refused:
        self.step = _SENDER
        options = [f"SIZE={len(message)}"] if self.has_extn("size") else []
        if route.needs_smtputf8:
            options += ["SMTPUTF8", "BODY=8BITMIME"]
            if not self.has_extn("smtputf8"):
                raise smtplib.SMTPNotSupportedError("the server does not offer SMTPUTF8")
        self._expect(2, self.mail(route.sender, options))
        refused = self._name_recipients(route.recipients)
        self.step = _DATA
        self._expect(3, self.docmd("DATA"))
        self.step = _MESSAGE
        self.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        self.step = _ACCEPTANCE
        self._expect(2, self.getreply())
        return refused

    def _name_recipients(self, recipients: Collection[str]) -> _Refused:
        self.step = _RECIPIENTS
        refused = {}
        for address in recipients:
            code, answer = self.rcpt(address)
            if code // 100 != 2:
                refused[address] = code, answer
        if len(refused) == len(set(recipients)):
            raise smtplib.SMTPRecipientsRefused(refused)
        return refused

    @staticmethod
    def _expect(kind: int, reply: tuple[int, bytes]) -> None:
        """Only a reply of that kind, its code's first digit, goes on."""
        if reply[0] // 100 != kind:
            raise smtplib.SMTPResponseException(*reply)


def _own_name(sock: socket.socket) -> str:
    """This machine as it calls itself, or by its address, RFC 5321 section 4.1.3. No name server is asked."""
    name = socket.gethostname()
    if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name):
        return name
    address = str(sock.getsockname()[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _explained(route: Route, session: _Session, error: Exception) -> ReportDeliveryError:
    """Where it went wrong, how, and what to do."""
    step = session.step
    beginning = f"The report was not mailed by {route.host}:{route.port}: {step}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _error(route, step, error.recipients, beginning)
    reason = _reason(route, session.deadline, error)
    return ReportDeliveryError(
        f"{beginning}: {reason}. {_way_out(step, error)}", host=route.host, port=route.port, step=step
    )


def _error(route: Route, step: str, refused: Mapping[str, tuple[int, bytes]], beginning: str) -> ReportDeliveryError:
    """Some or all were refused."""
    answers = {address: _answer(route, *answer) for address, answer in refused.items()}
    told = ", ".join(f"{address} ({answer})" for address, answer in answers.items())
    return ReportDeliveryError(
        f"{beginning}: refused {told}. {_WAY_OUT[step]}", host=route.host, port=route.port, step=step, refused=answers
    )


def _reason(route: Route, deadline: _Deadline, error: Exception) -> str:
    match error:
        case TimeoutError():
            return deadline.why()
        case smtplib.SMTPResponseException():
            return _answer(route, error.smtp_code, error.smtp_error)
        case smtplib.SMTPServerDisconnected() | ConnectionResetError() | BrokenPipeError() | ssl.SSLEOFError():
            return "the server closed the connection"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not trusted: {error.verify_message.rstrip('.')}"
        case _:
            return route.scrubbed(str(getattr(error, "strerror", None) or error)).rstrip(".")


def _way_out(step: str, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _DISTRUSTED
    if step == _SENDER and isinstance(error, smtplib.SMTPNotSupportedError):
        return _ASCII_ONLY
    # An answer is a refusal; without one, the server may have taken the mail.
    is_open = step == _ACCEPTANCE and not isinstance(error, smtplib.SMTPResponseException)
    way_out = _UNKNOWN_FATE if is_open else _WAY_OUT[step]
    return f"{way_out} {_SLOW}" if isinstance(error, TimeoutError) else way_out


def _answer(route: Route, code: int, text: bytes | str) -> str:
    """What a server said, as one short line."""
    # Scrubbed first: half a password is one too.
    line = route.scrubbed(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)
    line = _CONTROL.sub(" ", line)[:_ANSWER_CHARACTERS].strip().rstrip(".")
    return f"no answer of SMTP: {line!r}" if code < 0 else f"{code} {line}".rstrip()
