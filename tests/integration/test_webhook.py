"""A report posted to real servers: as it should be, and to servers that refuse, redirect, hang or lie."""

import email.utils
import hashlib
import hmac
import json
import logging
import socket
import ssl
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.error import HTTPError, URLError

import pytest
import trustme

from processes import (
    ErrorData,
    Process,
    ProcessExecutionReport,
    ReportContent,
    Task,
    TaskReportEntry,
    TaskStatus,
    WebhookChannel,
    WebhookConfig,
)
from processes.comms.payload import DETAILS_BYTES_MAX
from support.clock import Clock
from support.http import Answer, Handler, Receiver, drip, echo, hang_up, silence, status

#: For servers that answer, and for those that never do.
HUGE_S = 600.0
TINY_S = 0.2

SECRET = "the-shared-secret"  # noqa: S105  that is what it is
TOKEN = "the-bearer-token"  # noqa: S105
KEY = "the-key-in-the-url"

ERROR = ErrorData("bad", "fail", exception="wrong: \u2603", exception_type="ValueError")
REPORT = ProcessExecutionReport(
    {
        "ok": TaskReportEntry("ok", "func", (), {}, TaskStatus.SUCCESS, 1.5, 2, "gr\u00fcn"),
        "bad": TaskReportEntry("bad", "fail", (), {}, TaskStatus.ERRORED, 0.5, 3, None, ERROR),
    },
    "n\u00e4chtlich \u2603",
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy knows nothing of this machine's loopback."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What would be waited between requests."""
    waits: list[float] = []
    monkeypatch.setattr("processes.comms.webhook.time.sleep", waits.append)
    return waits


def send(receiver: Receiver, path: str = "/", *, errors_only: bool = False, **options: Any) -> None:  # noqa: ANN401
    """Post REPORT; a retry follows at once, unless it is said otherwise."""
    config = WebhookConfig(receiver.origin + path, **{"timeout": HUGE_S, "retry_delay": 0.0} | options)
    WebhookChannel(config).send_report(REPORT, errors_only=errors_only)


def posted(receiver: Receiver) -> dict[str, Any]:
    """The JSON of the only request."""
    (request,) = receiver.requests
    body: dict[str, Any] = json.loads(request.body)
    return body


def test_report_is_posted() -> None:
    """One POST of ASCII JSON with the whole report."""
    with Receiver() as receiver:
        send(receiver, "/hook?x=1")
        body = posted(receiver)
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook?x=1")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith("Python-urllib/")
    assert request.body.isascii()
    assert request.body == json.dumps(body).encode()
    assert body["process_name"] == REPORT.process_name
    assert list(body["entries"]) == ["ok", "bad"]
    assert body["entries"]["ok"]["result"] == "'gr\u00fcn'"
    assert body["entries"]["bad"]["error"]["exception"] == ERROR.exception


def test_failures_alone_are_posted() -> None:
    """With errors_only, entries are the failures."""
    with Receiver() as receiver:
        send(receiver, errors_only=True)
        assert list(posted(receiver)["entries"]) == ["bad"]


def test_body_tells_when_it_was_signed() -> None:
    """So that a receiver can refuse a report that somebody sends again later."""
    before = datetime.now(UTC)
    with Receiver() as receiver:
        send(receiver, secret=SECRET)
    assert before <= datetime.fromisoformat(posted(receiver)["timestamp"]) <= datetime.now(UTC)


@pytest.mark.parametrize("secret", [SECRET, "", "gehe\u00edm \u2603"])
def test_body_is_signed_to_the_byte(secret: str) -> None:
    """A receiver that knows the secret gets the same HMAC from what it read; a header of that name does not win."""
    with Receiver() as receiver:
        send(receiver, secret=secret, headers={"x-signature-sha256": "forged"})
    (request,) = receiver.requests
    expected = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers.get_all("X-Signature-SHA256") == [expected]
    assert "X-Signature-Sha256" in request.headers.keys()  # noqa: SIM118  a look-up ignores case


def test_body_is_unsigned_without_secret() -> None:
    """No header claims more than there is."""
    with Receiver() as receiver:
        send(receiver)
    assert "X-Signature-SHA256" not in receiver.requests[0].headers


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_configured_headers_win(name: str) -> None:
    """In any case of letters, beside others."""
    with Receiver() as receiver:
        send(receiver, headers={name: "application/x-report", "Authorization": f"Bearer {TOKEN}", "X-Latin": "\u00e9"})
    headers = receiver.requests[0].headers
    assert headers.get_all("Content-Type") == ["application/x-report"]
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["X-Latin"].encode("latin-1", "surrogateescape") == b"\xe9"


@pytest.mark.parametrize(
    ("nest_under", "extra", "own", "rest"),
    [
        (None, {}, [], {}),
        ("", {"chat_id": 7}, [], {"chat_id": 7}),
        ("data", {"chat_id": 7}, ["data"], {"chat_id": 7}),
        # On equal keys the extra one wins ...
        (None, {"process_name": "mine"}, [], {"process_name": "mine"}),
        ("data", {"entries": 1}, ["data"], {"entries": 1}),
        # ... but does not erase the report.
        (None, {"entries": 1, "chat_id": 7}, [], {"chat_id": 7}),
        ("data", {"data": 1, "chat_id": 7}, ["data"], {"chat_id": 7}),
        ("entries", {"entries": 1}, ["entries"], {}),
        # What JSON has no type for comes as its text.
        (None, {"at": Path("/x")}, [], {"at": "PosixPath('/x')"}),
    ],
)
def test_report_is_nested_beside_what_is_added(
    nest_under: str | None, extra: dict[str, object], own: list[str], rest: dict[str, object]
) -> None:
    """The report at the top or under its key, and nothing puts it away."""
    with Receiver() as receiver:
        send(receiver, nest_under=nest_under, extra_payload=extra)
        body = posted(receiver)
    report = body[own[0]] if own else body
    assert list(report["entries"]) == ["ok", "bad"]
    assert {key: body[key] for key in rest} == rest
    if own:
        assert set(body) == {*own, *rest}
        assert report["process_name"] == REPORT.process_name


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_is_an_error_that_names_its_target(code: int) -> None:
    """Nothing is sent there, and it is not tried again."""
    with Receiver() as other:
        target = f"{other.origin}/{KEY}"
        with Receiver(status(code, Location=target)) as receiver, pytest.raises(HTTPError) as raised:
            send(receiver, headers={"Authorization": TOKEN}, secret=SECRET)
    assert raised.value.code == code
    assert f"redirected to {other.origin}, which is not followed" in str(raised.value)
    assert KEY not in str(raised.value)
    assert (len(receiver.requests), other.requests) == (1, [])


@pytest.mark.parametrize("target", ["/hook/", "", "?x"])
def test_redirect_within_a_server_is_told_as_such(target: str) -> None:
    """As for a slash that lacks; the path is not told, it may be a key."""
    with Receiver(status(301, Location=target or "/")) as receiver, pytest.raises(HTTPError) as raised:
        send(receiver, f"/{KEY}")
    assert f"redirected to another path of {receiver.origin}" in str(raised.value)
    assert KEY not in str(raised.value)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "javascript:1", "http://127.0.0.1:x"])
def test_redirect_to_nowhere_is_an_error(target: str) -> None:
    """Whatever it names."""
    with Receiver(status(302, Location=target)) as receiver, pytest.raises(HTTPError, match="HTTP Error 302"):
        send(receiver)
    assert len(receiver.requests) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib does not close the answer
def test_redirect_to_what_is_no_url_is_an_error() -> None:
    """The error is urllib's own."""
    with Receiver(status(302, Location="http://[")) as receiver, pytest.raises(ValueError, match="Invalid IPv6 URL"):
        send(receiver)
    assert len(receiver.requests) == 1


class Patient(urllib.request.HTTPRedirectHandler):
    """Follows more redirects than urllib does."""

    max_redirections = 50


def test_redirect_that_an_installed_opener_follows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets neither report, nor headers, nor signature, and the delivery has failed."""
    monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(Patient))
    with Receiver() as other:
        with (
            Receiver(status(302, Location=other.origin)) as receiver,
            pytest.raises(ConnectionError, match=f"redirected to {other.origin}, which is not followed"),
        ):
            send(receiver, headers={"Authorization": TOKEN}, secret=SECRET, retries=0)
        (request,) = other.requests
    assert (request.method, request.body) == ("GET", b"")
    assert not {"authorization", "x-signature-sha256"} & {name.lower() for name in request.headers}


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "FILE:///etc/hostname",
        "ftp://127.0.0.1/x",
        "data:,x",
        "javascript:1",
        "127.0.0.1:80/x",
        "//127.0.0.1/x",
        "",
        "http://",
        "http:///x",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:x/the-key-in-the-url",
        "http://[::1/the-key-in-the-url",
        "http://me:the-bearer-token@127.0.0.1/",
        "http://127.0.0.1/the-key-in-the-url and more",
        "http://127.0.0.1/the-key-in-the-url\r\nX: y",
        "http://127.0.0.1/the-key-in-the-url\u2603",
    ],
)
def test_url_that_cannot_be_posted_to_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is opened, and without quoting it."""
    urlopen = mock.Mock()
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    with pytest.raises(ValueError, match=r"WebhookConfig\.url") as raised:
        WebhookChannel(WebhookConfig(url)).send_report(REPORT, errors_only=False)
    assert urlopen.call_count == 0
    assert not [secret for secret in (KEY, TOKEN) if secret in str(raised.value)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"url": None}, TypeError),
        ({"timeout": None}, TypeError),
        ({"timeout": True}, TypeError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, ValueError),
        ({"retries": True}, TypeError),
        ({"retries": 1.5}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retry_delay": -0.1}, ValueError),
        ({"retry_delay": None}, TypeError),
        ({"extra_payload": {"x": float("nan")}}, ValueError),
        ({"headers": {"X": f"{TOKEN}\r\nEvil: 1"}}, ValueError),
        ({"headers": {"X": f"{TOKEN}\u2603"}}, ValueError),
        ({"headers": {f"X: {TOKEN}": "y"}}, ValueError),
        ({"headers": {"": "y"}}, ValueError),
    ],
)
def test_configuration_that_cannot_work_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    """When a report is sent: nothing is posted, and no secret is told."""
    with Receiver() as receiver:
        config = WebhookConfig(**{"url": receiver.origin} | options)
        with pytest.raises(error) as raised:
            WebhookChannel(config).send_report(REPORT, errors_only=False)
    assert receiver.requests == []
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    "answers",
    [
        [status(500)],
        [status(503), status(599)],
        [status(429)],
        [status(429, Retry_After="0")],
        [status(503, Retry_After="Fri, 02 Jan 2026 03:04:05 GMT")],
        [status(503, Retry_After="Fri, 02 Jan 2026 03:04:05 -0000")],
        [status(503, Retry_After="soon")],
        [hang_up],
        [hang_up, status(500)],
    ],
)
def test_passing_trouble_is_tried_again(answers: list[Answer]) -> None:
    """With the same body to the byte, and so the same signature."""
    with Receiver(*answers) as receiver:
        send(receiver, secret=SECRET)
    assert len(receiver.requests) == len(answers) + 1
    assert len({request.body for request in receiver.requests}) == 1
    assert len({request.headers["X-Signature-SHA256"] for request in receiver.requests}) == 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 410, 413, 422])
def test_refusal_is_not_tried_again(code: int) -> None:
    """The error has the status, and what the server says to it."""
    with (
        Receiver(status(code, b'{"reason":\n "no such hook \xe2\x98\x83"}')) as receiver,
        pytest.raises(HTTPError, match=f"^HTTP Error {code}: ") as raised,
    ):
        send(receiver)
    assert raised.value.code == code
    assert str(raised.value).endswith(f'; {receiver.origin} says: {{"reason": "no such hook \u2603"}}')
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_trouble_that_stays_is_told_at_last(retries: int) -> None:
    """After so many further requests as were asked for."""
    with Receiver(*[status(500, b"broken")] * 9) as receiver, pytest.raises(HTTPError, match="says: broken"):
        send(receiver, retries=retries)
    assert len(receiver.requests) == 1 + retries


def test_waits_between_requests_double(waits: list[float]) -> None:
    """Beginning with the delay that was configured."""
    with Receiver(*[status(500)] * 4) as receiver:
        send(receiver, retries=4, retry_delay=0.25)
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_server_may_ask_for_a_longer_wait(waits: list[float]) -> None:
    """In seconds or by a date; a shorter one than ours is not obeyed."""
    later = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    answers = [status(429, Retry_After="7"), status(429, Retry_After=later), status(503, Retry_After="1")]
    with Receiver(*answers) as receiver:
        send(receiver, retries=3, retry_delay=2.0)
    assert waits[0] == 7.0
    assert 50 < waits[1] <= 100
    assert waits[2] == 8.0


@pytest.mark.parametrize("asked", ["3600", "Fri, 02 Jan 2099 03:04:05 GMT"])
def test_wait_beyond_the_limit_is_not_begun(asked: str, waits: list[float]) -> None:
    """The error comes at once, and is the server's."""
    with Receiver(status(429, Retry_After=asked)) as receiver, pytest.raises(HTTPError, match="HTTP Error 429"):
        send(receiver)
    assert (len(receiver.requests), waits) == (1, [])


def test_refused_connection_is_told(waits: list[float]) -> None:
    """After the retries; by the error that 7.0.4 raised."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Not listening: nobody else gets the port, and it refuses.
        config = WebhookConfig(f"http://127.0.0.1:{taken.getsockname()[1]}/{KEY}", timeout=HUGE_S)
        with pytest.raises(URLError, match="Connection refused") as raised:
            WebhookChannel(config).send_report(REPORT, errors_only=False)
    assert isinstance(raised.value.reason, ConnectionRefusedError)
    assert waits == [0.25, 0.5]


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        silence(),
        silence(HEAD),
        silence(HEAD + b"X: y"),
        drip(b""),
        drip(b"HTTP/1.1 200 "),
        drip(HEAD + b"X: "),
        drip(HEAD, b"X: y\r\n"),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "after status", "in header", "drip", "drip status", "drip header", "drip headers", "continue"],
)
def test_answer_that_never_ends_is_given_up(answer: Answer) -> None:
    """Though bytes keep coming: the limit is for the whole, and the thread behind it ends."""
    with (
        Receiver(answer) as receiver,
        pytest.raises(TimeoutError, match=f"^No answer from {receiver.origin} within {TINY_S} s$"),
    ):
        send(receiver, timeout=TINY_S)
    assert len(receiver.requests) <= 1  # there is no time for another


@pytest.mark.parametrize("answer", [drip(b""), drip(HEAD + b"X: "), drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n")])
def test_answer_that_was_given_up_is_not_read_on(answer: Answer) -> None:
    """The connection is closed, though more would come."""
    with Receiver(answer) as receiver:
        with pytest.raises(TimeoutError):
            send(receiver, timeout=TINY_S)
        assert receiver.hung_up.wait(60)


def test_trouble_before_the_time_ran_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last request got no answer; why there was another one is known."""
    clock = Clock()
    monkeypatch.setattr("processes.comms.webhook.time", clock)

    def refuse_late(handler: Handler) -> None:
        clock.now += HUGE_S - TINY_S
        status(503)(handler)

    told = f"within {HUGE_S} s; the request before: HTTP Error 503: Service Unavailable$"
    with Receiver(refuse_late, silence()) as receiver, pytest.raises(TimeoutError, match=told):
        send(receiver, retries=1)
    assert len(receiver.requests) <= 2


def test_server_that_accepts_nobody_is_given_up() -> None:
    """The kernel completes the connection, nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = WebhookConfig(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=TINY_S)
        with pytest.raises(TimeoutError, match="No answer"):
            WebhookChannel(config).send_report(REPORT, errors_only=False)


def test_connection_that_is_never_made_is_given_up() -> None:
    """The kernel's queue is full: it answers no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        config = WebhookConfig(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=TINY_S)
        with pytest.raises(TimeoutError, match="No answer"):
            WebhookChannel(config).send_report(REPORT, errors_only=False)
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("answer", [silence, drip])
def test_body_of_a_success_is_not_waited_for(answer: Callable[[bytes], Answer]) -> None:
    """The report has arrived."""
    with Receiver(answer(HEAD + b"Content-Length: 1000000\r\n\r\n")) as receiver:
        send(receiver)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("answer", [silence, drip])
def test_body_of_a_refusal_is_waited_for_a_little(
    answer: Callable[[bytes], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status is told, whether or not the server goes on about it."""
    monkeypatch.setattr("processes.comms.webhook.ANSWER_WAIT_S", 0.05)
    head = b"HTTP/1.1 400 Bad\r\nContent-Length: 1000000\r\n\r\n"
    with Receiver(answer(head)) as receiver, pytest.raises(HTTPError, match=r"^HTTP Error 400: Bad"):
        send(receiver, timeout=2.0)  # of the sockets too: the thread left in a read ends with it, and is waited for


@pytest.mark.parametrize(
    "answer",
    [
        status(400, b"x" * 10_000_000),
        lambda handler: handler.say(b"HTTP/1.1 400 " + b"y" * 60_000 + b"\r\n\r\n"),
        lambda handler: handler.say(b"not HTTP at all " + b"z" * 60_000 + b"\r\n\r\n"),
    ],
    ids=["body", "reason", "status line"],
)
def test_error_of_a_server_that_talks_much_is_short(answer: Answer) -> None:
    """What it says is cut."""
    with Receiver(*[answer] * 3) as receiver, pytest.raises(Exception, match=r"\w") as raised:
        send(receiver)
    assert len(str(raised.value)) < 2_500


@pytest.mark.parametrize("code", [400, 500])
def test_secret_that_a_server_says_back_is_not_told(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the error, the warning or the log: not of the URL, of the headers, or the shared one."""
    secrets = [KEY, TOKEN, "the-query-value", SECRET]
    with Receiver(*[echo(code)] * 3) as receiver:
        config = WebhookConfig(
            f"{receiver.origin}/{KEY}?q=the-query-value",
            {"Authorization": f"Bearer {TOKEN}", "X-Shared": SECRET},
            secret=SECRET,
            retry_delay=0,
        )
        with pytest.warns(UserWarning, match=r"\[redacted\]") as warned:
            (sent,) = REPORT.notify(WebhookChannel(config))
    told = [str(sent.error), repr(sent.error), str(warned[0].message), caplog.text, repr(config)]
    assert [(secret, text) for secret in secrets for text in told if secret in text] == []
    assert sent.error is not None
    assert sent.error.__context__ is None


def test_secret_that_is_cut_off_is_not_told() -> None:
    """Its beginning would be most of it."""
    said = b"x" * 495 + TOKEN.encode()
    with Receiver(status(400, said)) as receiver, pytest.raises(HTTPError) as raised:
        send(receiver, headers={"Authorization": TOKEN})
    assert str(raised.value).endswith("xxx[redacted]")


def test_secret_in_a_broken_answer_is_not_told() -> None:
    """What is no HTTP at all is quoted by http.client."""
    with Receiver(*[lambda handler: handler.say(f"token {TOKEN} is bad\r\n\r\n".encode())] * 3) as receiver:
        with pytest.raises(URLError, match=r"token \[redacted\] is bad"):
            send(receiver, headers={"Authorization": TOKEN})
        assert len(receiver.requests) == 3


def test_configuration_does_not_show_its_secrets() -> None:
    """A repr ends in logs, and among the locals of a failure."""
    config = WebhookConfig(f"https://hooks.example:8443/{KEY}", {"Authorization": TOKEN}, secret=SECRET)
    assert repr(config) == "<WebhookConfig https://hooks.example:8443>"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that no system knows."""
    return trustme.CA()


def server_context(authority: trustme.CA, host: str) -> ssl.SSLContext:
    """For a server with a certificate for `host`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """For a client that knows the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_report_is_posted_by_https(authority: trustme.CA) -> None:
    """To a server whose authority is known."""
    with Receiver(tls=server_context(authority, "127.0.0.1")) as receiver:
        send(receiver, secret=SECRET, ssl_context=trusting(authority))
        assert list(posted(receiver)["entries"]) == ["ok", "bad"]


@pytest.mark.parametrize("problem", ["unknown authority", "other host"])
def test_certificate_that_is_not_valid_ends_the_delivery(
    problem: str, authority: trustme.CA, waits: list[float]
) -> None:
    """Before a byte of the report is sent; to try again would not help."""
    host = "other.example" if problem == "other host" else "127.0.0.1"
    context = trusting(authority) if problem == "other host" else None
    with (
        Receiver(tls=server_context(authority, host)) as receiver,
        pytest.raises(URLError, match="CERTIFICATE_VERIFY_FAILED") as raised,
    ):
        send(receiver, ssl_context=context)
    assert isinstance(raised.value.reason, ssl.SSLCertVerificationError)
    assert (receiver.requests, waits) == ([], [])


def huge() -> list[str]:
    return ["x" * 1_000] * 50_000


@pytest.mark.parametrize("parallel", [None, True])
def test_result_of_fifty_megabytes_is_posted_in_part(parallel: bool | None) -> None:
    """Also when it is still in a child's form."""
    report = Process([Task("huge", huge)]).run(parallel=parallel)
    with Receiver() as receiver:
        (sent,) = report.notify(WebhookChannel(WebhookConfig(receiver.origin, timeout=HUGE_S)))
        assert sent.delivered
        assert len(receiver.requests[0].body) < DETAILS_BYTES_MAX / 100
        assert posted(receiver)["entries"]["huge"]["result"].startswith("['xxx")


class Fake:
    """What a test of a program puts in the place of urlopen."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[urllib.request.Request, float]] = []

    def __call__(self, request: urllib.request.Request, timeout: float) -> BytesIO:
        self.calls.append((request, timeout))
        if self.error is not None:
            raise self.error
        return BytesIO()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replaces urlopen."""
    fake = Fake()
    monkeypatch.setattr(urllib.request, "urlopen", fake)
    return fake


def test_urlopen_may_be_replaced(fake: Fake) -> None:
    """It is looked up when it is called, and gets a Request and the configured time-out."""
    WebhookChannel(WebhookConfig("http://hooks.example/x", {"X-A": "b"}, 7, SECRET)).send_report(
        REPORT, errors_only=False
    )
    ((request, timeout),) = fake.calls
    assert isinstance(request, urllib.request.Request)
    assert isinstance(request.data, bytes)
    assert (request.full_url, request.get_method(), timeout) == ("http://hooks.example/x", "POST", 7)
    assert list(json.loads(request.data)["entries"]) == ["ok", "bad"]
    assert request.get_header("X-a") == "b"
    assert request.get_header("Content-type") == "application/json"
    expected = hmac.new(SECRET.encode(), request.data, hashlib.sha256).hexdigest()
    assert request.get_header("X-signature-sha256") == expected
    assert request.headers == {}  # none would be sent to where a redirect points


def test_urlopen_may_be_a_mock() -> None:
    """With attributes that are mocks as well."""
    with mock.patch("urllib.request.urlopen") as urlopen:
        (sent,) = REPORT.notify(WebhookChannel(WebhookConfig("http://hooks.example/x")))
    assert sent.delivered
    assert urlopen.call_args.kwargs == {"timeout": 5}
    assert urlopen.call_count == 1


@pytest.mark.parametrize(
    ("error", "told", "calls"),
    [
        (HTTPError("http://x", 400, "Bad", None, None), "HTTP Error 400: Bad", 1),  # type: ignore[arg-type]
        (HTTPError("http://x", 500, "Broken", Message(), None), "HTTP Error 500: Broken", 3),
        (URLError("no route"), "<urlopen error no route>", 3),
        (ZeroDivisionError("odd"), "odd", 1),
    ],
)
def test_replaced_urlopen_may_raise(
    error: Exception, told: str, calls: int, fake: Fake, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a program's test makes it raise: it is told as in 7.0.4."""
    fake.error = error
    with pytest.warns(UserWarning, match="failed") as caught:
        REPORT.notify(WebhookChannel(WebhookConfig("http://hooks.example/x")))
    expected = f"WebhookChannel failed to send report: {told}"
    assert [str(warning.message) for warning in caught] == [expected]
    assert caplog.record_tuples == [("processes", logging.ERROR, expected)]
    assert len(fake.calls) == calls


def test_configuration_is_as_in_7_0_4() -> None:
    """Six fields by position, fresh defaults, all of which may be assigned, before and after the channel is made."""
    config = WebhookConfig("http://a", {"X": "y"}, 7, "s", {"k": 1}, "data")
    assert (config.url, config.headers, config.timeout, config.secret, config.extra_payload, config.nest_under) == (
        "http://a",
        {"X": "y"},
        7,
        "s",
        {"k": 1},
        "data",
    )
    plain, other = WebhookConfig("http://a"), WebhookConfig("http://a")
    assert plain == other
    assert (plain.headers, plain.timeout, plain.secret, plain.extra_payload, plain.nest_under) == (
        {},
        5,
        None,
        {},
        None,
    )
    assert plain.headers is not other.headers
    assert plain.extra_payload is not other.extra_payload
    with pytest.raises(TypeError):
        WebhookConfig("http://a", {}, 5, None, {}, None, 2)  # type: ignore[call-arg]


def test_assigned_configuration_is_obeyed(fake: Fake) -> None:
    """A channel has the configuration itself."""
    config = WebhookConfig("http://a.example")
    channel = WebhookChannel(config)
    config.url = "http://b.example"
    channel.send_report(REPORT, errors_only=False)
    assert fake.calls[0][0].full_url == "http://b.example"


def test_channel_keeps_what_it_is_given(fake: Fake) -> None:
    """By identity; the content decides what is told."""
    content = ReportContent(show_traceback=False)
    config = WebhookConfig("http://a.example")
    channel = WebhookChannel(config, content)
    assert channel.content is content
    assert channel.webhook_config is config
    assert WebhookChannel(config).content == ReportContent()
    channel.send_report(REPORT, errors_only=False)
    assert isinstance(fake.calls[0][0].data, bytes)
    assert "traceback" not in json.loads(fake.calls[0][0].data)["entries"]["bad"]["error"]
