"""
A web server that keeps what it is sent, and answers as it was told: with a status, too late, or byte by byte.

    with Receiver(status(500), status(200)) as receiver:
        ...                                     # the first request is answered with 500, all others with 200
        receiver.requests[0].body
"""

import http.server
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from typing import Self, TypeAlias

#: How often one that waits for another looks whether the test has ended, and a drip falls.
LOOK_EVERY_S = 0.01


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Message
    body: bytes


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads one request, keeps it, answers it."""

    @property
    def receiver(self) -> "Receiver":
        """Whose connection it is."""
        assert isinstance(self.server, Receiver)
        return self.server

    def setup(self) -> None:
        """The TLS handshake is made here, in the connection's own thread."""
        if self.receiver.tls is not None:
            self.request = self.receiver.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        if isinstance(self.request, ssl.SSLSocket):
            self.request.close()  # The server closes the one it accepted, which this took over.

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.receiver.keep(Received(self.command, self.path, self.headers, body))(self)

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the base class
        pass

    def say(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()


Answer: TypeAlias = Callable[[Handler], None]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer as it should be. In a header's name, `_` is written for `-`."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.say(body)

    return answer


def echo(code: int) -> Answer:
    """All that was sent, sent back."""

    def answer(handler: Handler) -> None:
        request = handler.receiver.requests[-1]
        status(code, f"{request.path} {list(request.headers.values())}".encode())(handler)

    return answer


def silence(said: bytes = b"") -> Answer:
    """So much of an answer, and nothing more until the test ends."""

    def answer(handler: Handler) -> None:
        handler.say(said)
        handler.receiver.closing.wait()

    return answer


def drip(said: bytes, drop: bytes = b"x") -> Answer:
    """So much of an answer, and then drop by drop until the test ends, or nobody listens."""

    def answer(handler: Handler) -> None:
        handler.say(said)
        while not handler.receiver.closing.wait(LOOK_EVERY_S):
            handler.say(drop)

    return answer


def hang_up(handler: Handler) -> None:
    """No answer."""


class Receiver(socketserver.ThreadingTCPServer):
    """
    The server, on loopback.

    Attributes:
        requests: What came in, in order.
        tls: For https.
        closing: Set when the test ends.
        hung_up: Set when a client closed the connection before its answer had ended.
    """

    # All threads are waited for when it closes.
    daemon_threads = False
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Received] = []
        self.tls = tls
        self.closing = threading.Event()
        self.hung_up = threading.Event()
        self._answers = list(answers)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(LOOK_EVERY_S,))

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.server_address[1]}"

    def keep(self, request: Received) -> Answer:
        """Note a request; how it is to be answered, which is 200 after the last answer given."""
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if self._answers else status(200)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up, or refuse the certificate, are what is tested; anything else is told."""
        if isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            self.hung_up.set()
        else:
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
