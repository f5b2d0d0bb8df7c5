"""
Mail servers on the loopback: one that works, and one that goes wrong where it is told to.

Both run in a thread of this process and are gone at the end of their `with` block.
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import SMTPUTF8
from types import TracebackType
from typing import Self

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

#: A fail-safe that no passing test meets.
WAIT_S = 30.0

USER, PASSWORD = "reporter", "hunter2-sesame"

#: A name that leads to this machine; its certificates hold this and no other.
HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Received:
    """A mail as it came in."""

    sender: str
    recipients: list[str]
    content: bytes
    message: EmailMessage
    #: Whether it came through TLS.
    encrypted: bool
    #: Names of the client's certificate.
    client: tuple[str, ...]
    #: Who logged in, or None.
    user: str | None


@dataclass(slots=True)
class MailServer:
    """What a working server took."""

    #: For `SMTPConfig.mailhost`.
    address: tuple[str, int]
    mails: list[Received] = field(default_factory=list)


class _Handler:
    """What aiosmtpd calls; the names are its own."""

    def __init__(self, server: MailServer, refused: Collection[str]) -> None:
        self._server = server
        self._refused = refused

    async def handle_RCPT(  # noqa: N802
        self, smtp: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self._refused:
            return f"550 no mailbox {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, smtp: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert smtp.transport is not None
        assert isinstance(envelope.content, bytes)
        certificate = smtp.transport.get_extra_info("peercert") or {}
        self._server.mails.append(
            Received(
                envelope.mail_from or "",
                list(envelope.rcpt_tos),
                envelope.content,
                BytesParser(EmailMessage, policy=SMTPUTF8).parsebytes(envelope.content),
                smtp.transport.get_extra_info("ssl_object") is not None,
                tuple(name for _, name in certificate.get("subjectAltName", ())),
                session.auth_data,
            )
        )
        return "250 taken"


def _authenticate(smtp: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    assert isinstance(data, LoginPassword)
    good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False, auth_data=data.login.decode())


@contextlib.contextmanager
def mail_server(
    *,
    starttls: ssl.SSLContext | None = None,
    implicit_tls: ssl.SSLContext | None = None,
    refused: Collection[str] = (),
    smtputf8: bool = False,
) -> Iterator[MailServer]:
    """
    A server that takes mail for everybody who is not `refused`.

    With a context for `starttls` it takes none without; it knows one user.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    server = MailServer((HOST, listener.getsockname()[1]))

    def protocol() -> SMTP:
        return SMTP(
            _Handler(server, refused),
            hostname=HOST,
            enable_SMTPUTF8=smtputf8,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=_authenticate,
            auth_require_tls=starttls is not None,
        )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        listening = await loop.create_server(protocol, sock=listener, ssl=implicit_tls)
        is_up.set_result((loop, end))
        await end.wait()
        listening.close()
        # The clients are gone: their connections end by themselves.
        conversations = asyncio.all_tasks() - {asyncio.current_task()}
        if conversations:
            await asyncio.wait(conversations, timeout=WAIT_S)

    is_up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="mail server")
    thread.start()
    loop, end = is_up.result(WAIT_S)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(WAIT_S)


class Fault(enum.Enum):
    """What a server does instead of answering."""

    #: Nothing, not even listen.
    HANG = enum.auto()
    #: Close the connection.
    DROP = enum.auto()
    #: Send an answer that never ends, slowly.
    DRIP = enum.auto()


class _Over(Exception):
    """The conversation is."""


class ScriptedServer:
    """
    Takes one connection and answers as it is told.

    The steps are "banner", the commands, "handshake", "body" (no answer, but faults) and "message". `before_answer` is
    called with each command, in the server's thread.

    Attributes:
        heard: The commands that came, without arguments, and "message" for one.
    """

    _ANSWERS: Mapping[str, bytes] = {
        "banner": b"220 hello",
        "EHLO": b"250-localhost\r\n250-AUTH PLAIN\r\n250 STARTTLS",
        "STARTTLS": b"220 go on",
        "AUTH": b"235 welcome",
        "DATA": b"354 go on",
        "QUIT": b"221 bye",
    }

    # Between two bytes of a drip.
    _DRIP_S = 0.01

    def __init__(
        self,
        answers: Mapping[str, bytes | Fault] | None = None,
        *,
        context: ssl.SSLContext | None = None,
        before_answer: Callable[[str], object] = lambda command: None,
    ) -> None:
        self.heard: list[str] = []
        self._answers: dict[str, bytes | Fault] = {**self._ANSWERS, **(answers or {})}
        self._context = context
        self._before_answer = before_answer
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # What nobody reads soon fills it; connections have it from the listener.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.address = (HOST, self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="scripted mail server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # It wakes the one that waits in accept.
        self._thread.join(WAIT_S)
        self._listener.close()

    def _serve(self) -> None:
        # OSError: nobody came, or the client went.
        with contextlib.suppress(OSError):
            self._connection, _ = self._listener.accept()
            try:
                self._connection.settimeout(WAIT_S)
                with contextlib.suppress(_Over):
                    self._converse()
            finally:
                self._connection.close()

    def _converse(self) -> None:
        self._answer("banner")
        while command := self._line().split(b" ")[0].decode().upper():
            self.heard.append(command)
            self._before_answer(command)
            self._answer(command)
            if command == "STARTTLS" and self._context is not None:
                self._encrypt(self._context)
            elif command == "DATA":
                self._fail_at("body")
                while self._line() != b".":
                    pass
                self.heard.append("message")
                self._answer("message")

    def _encrypt(self, context: ssl.SSLContext) -> None:
        self._fail_at("handshake")
        self._connection = context.wrap_socket(self._connection, server_side=True)

    def _line(self) -> bytes:
        """The next line, read byte by byte: what follows may be for TLS."""
        line = b""
        while not line.endswith(b"\r\n"):
            byte = self._connection.recv(1)
            if not byte:
                raise _Over
            line += byte
        return line[:-2]

    def _fail_at(self, step: str) -> None:
        """Where nothing is to be said: only a fault, if one is asked for."""
        if step in self._answers:
            self._answer(step)

    def _answer(self, step: str) -> None:
        match self._answers.get(step, b"250 OK"):
            case Fault.HANG:
                self._end.wait(WAIT_S)
                raise _Over
            case Fault.DROP:
                raise _Over
            case Fault.DRIP:
                while True:
                    self._connection.sendall(b"2")
                    time.sleep(self._DRIP_S)
            case bytes() as text:
                self._connection.sendall(text + b"\r\n")


@contextlib.contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """The address of a port where connecting gets no answer: its queue is full, and the kernel drops what follows."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # "backlog", listen(2): one more than it says gets in.
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


def server_context(authority: trustme.CA, certificate: trustme.LeafCert | None) -> ssl.SSLContext:
    """
    What a server needs for TLS; it looks at clients' certificates of the same authority, if they have one.

    Without a certificate it shows that of the authority, which has signed itself.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if certificate is None:
        with authority.private_key_pem.tempfile() as key, authority.cert_pem.tempfile() as chain:
            context.load_cert_chain(chain, key)
    else:
        certificate.configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context
