"""
A report posted as signed JSON to a URL.

One delivery is one body, made and signed once, and at most `1 + retries` requests with it, all within `timeout`. A
receiver that answered too late may get it twice: it knows the second by its signature, which is the same.

Nothing an error says comes from the URL's path, the headers or the secret: such an error ends in logs. A server may say
them back, so they are taken out of what it says.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

from processes.comms.limit import within
from processes.comms.payload import payload
from processes.failure import bounded_repr, shorten, text_of, type_name
from processes.redaction import REDACTED
from processes.report import ProcessExecutionReport, ReportChannel, ReportContent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping
    from urllib.error import HTTPError
    from urllib.request import Request

SIGNATURE_HEADER = "X-Signature-SHA256"

#: What an error quotes of the server's answer, in bytes, and of its reason phrase, in characters.
ANSWER_BYTES_MAX = 500
REASON_CHARS_MAX = 200

#: Of any other error, in characters: http.client quotes a status line that is none, of any length.
ERROR_CHARS_MAX = 1_000

#: The status is known, and is what matters: longer than this nobody waits for what the server says to it.
ANSWER_WAIT_S = 1.0

#: Parts of a URL's path from this length on may be a key; shorter ones are words.
_KEY_CHARS_MIN = 12

#: A credential shorter than this is none, and to take it out would garble texts.
_SECRET_CHARS_MIN = 4

#: Their values are no secrets.
_HARMLESS_HEADERS = frozenset({"accept", "content-type", "user-agent"})

TOO_MANY_REQUESTS = 429


@dataclass
class WebhookConfig:
    """Where and how a report is posted. Checked when a report is sent, not before: all fields may be assigned."""

    __module__ = "processes"

    #: http or https. No redirect is followed: give the final one.
    url: str
    #: Sent beside `Content-Type: application/json`, or in its place.
    headers: dict[str, str] = field(default_factory=dict)
    #: Seconds for the delivery as a whole, retries included.
    timeout: float = 5
    #: Makes the header `X-Signature-SHA256`: lower-case hex of the HMAC-SHA256 of the body, the secret in UTF-8. The
    #: body holds a `timestamp`, so a receiver that looks at both refuses old reports sent again by somebody else.
    secret: str | None = None
    #: Put beside the report at the top of the body. On equal keys it wins, but not over the report's entries.
    extra_payload: dict[str, Any] = field(default_factory=dict)
    #: Put the report under this key of the body, not at its top.
    nest_under: str | None = None
    #: Further requests after a connection that failed, an answer of 429, or of 500 and above.
    retries: int = field(default=2, kw_only=True)
    #: Seconds before the first of them, twice as long before each next; a `Retry-After` that asks for more is obeyed.
    retry_delay: float = field(default=0.25, kw_only=True)
    #: For https, in place of the default one, which verifies certificates against the system's authorities.
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        """Without what may be secret."""
        return f"<{type(self).__name__} {_origin(self.url)}>"


class WebhookChannel(ReportChannel):
    """Posts a report as JSON, which is for programs: relays to chats, alerting, collectors."""

    __module__ = "processes"

    def __init__(self, webhook_config: WebhookConfig, content: ReportContent | None = None) -> None:
        """Without `content`, everything is told."""
        self.webhook_config = webhook_config
        self.content: ReportContent = ReportContent() if content is None else content

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        """
        Post the report, only its failures with `errors_only`.

        Raises:
            ValueError, TypeError: The configuration cannot be used.
            urllib.error.HTTPError: The server refused, or redirected.
            TimeoutError: There was no answer in time. The server may have got the report all the same.
            OSError: The server could not be reached; `urllib.error.URLError`, also for a certificate that is not valid.
        """
        from datetime import UTC, datetime

        config = self.webhook_config
        _check(config)
        told = payload(report, self.content, errors_only=errors_only, at=datetime.now(UTC))
        _Post(config, _body(told, config)).deliver()


def _check(config: WebhookConfig) -> None:
    _check_url(config.url)
    _check_headers(config.headers)
    _check_number("timeout", config.timeout, is_zero_fine=False)
    _check_number("retries", config.retries)
    _check_number("retry_delay", config.retry_delay)
    if not isinstance(config.retries, int):
        raise TypeError("WebhookConfig.retries must be a whole number.")


def _check_url(url: str) -> None:
    if not isinstance(url, str):
        raise TypeError(f"WebhookConfig.url must be a str, not {type_name(type(url))}.")
    try:
        parts = urlsplit(url)
        has_place = bool(parts.hostname) and parts.port != 0
    except ValueError:  # Its text may quote what is secret.
        has_place, parts = False, urlsplit("http:")
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"WebhookConfig.url must begin with http:// or https://, not with {parts.scheme[:20]!r}.")
    if not has_place:
        raise ValueError("WebhookConfig.url has no host, or a port that cannot be.")
    if "@" in parts.netloc:
        raise ValueError("WebhookConfig.url has a user or a password: put them into headers, as Authorization.")
    after_host = url.strip().partition(parts.netloc)[2]
    if not after_host.isascii() or not after_host.isprintable() or " " in after_host:
        raise ValueError("WebhookConfig.url has characters that must be percent-encoded.")


def _check_headers(headers: Mapping[str, object]) -> None:
    for name, value in headers.items():
        if not name or not name.isascii() or not name.isprintable() or set(name) & set(" :"):
            raise ValueError("WebhookConfig.headers has a name that no header can have.")
        text = _header_text(value)
        if set(text) & set("\r\n\0") or any(ord(character) > 255 for character in text):
            raise ValueError(f"WebhookConfig.headers: the value of {name!r} has characters that no header can carry.")


def _header_text(value: object) -> str:
    """http.client takes bytes and numbers too."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _check_number(name: str, value: object, *, is_zero_fine: bool = True) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"WebhookConfig.{name} must be a number, not {type_name(type(value))}.")
    if not math.isfinite(value) or value < 0 or (value == 0 and not is_zero_fine):
        raise ValueError(f"WebhookConfig.{name} cannot be {value}.")


def _body(told: dict[str, object], config: WebhookConfig) -> bytes:
    """JSON, in ASCII."""
    import json

    held: dict[str, object] = {config.nest_under: told} if config.nest_under else told
    # On equal keys the extra ones win, as they always did, but for the one that would erase the report: an alarm
    # without its cause, or none at all for want of a better key, is worse than a field of the receiver's that lacks.
    keeps = config.nest_under or "entries"
    merged = held | {key: value for key, value in config.extra_payload.items() if key != keeps}
    return json.dumps(merged, allow_nan=False, default=bounded_repr).encode("ascii")


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a request did not deliver."""

    #: To be raised when it was the last.
    error: Exception
    #: Seconds to wait at least before another request; None when another would fare no better.
    retry_after: float | None


class _Post:
    """One body on its way."""

    def __init__(self, config: WebhookConfig, body: bytes) -> None:
        self._config = config
        self._body = body
        self._ends_at = time.monotonic() + config.timeout
        self._secrets = sorted(set(_secrets(config)), key=len, reverse=True)
        self._earlier: _Trouble | None = None

    def deliver(self) -> None:
        """Post until it is delivered, or no retry is left, or no time for one."""
        delay = self._config.retry_delay
        for retries_left in range(self._config.retries, -1, -1):
            trouble = self._try()
            if trouble is None:
                return
            wait = None if trouble.retry_after is None else max(delay, trouble.retry_after)
            if wait is None or not retries_left or wait >= self._left():
                raise trouble.error
            self._earlier = trouble
            time.sleep(wait)
            delay *= 2

    def _left(self) -> float:
        return max(self._ends_at - time.monotonic(), 0.0)

    def _try(self) -> _Trouble | None:
        # The first gets the number that was configured, which programs that replace `urlopen` look at.
        timeout = self._left() if self._earlier else self._config.timeout
        try:
            within(self._left(), lambda: self._request_once(timeout))
        except Exception as error:  # noqa: BLE001  `urlopen` raises what it likes
            caught = error
        else:
            return None
        # Out of the handler: what is raised in the end shall not carry this one, which may quote secrets, as context.
        return self._trouble(caught)

    def _request_once(self, timeout: float) -> None:
        import urllib.request
        from http.client import HTTPResponse

        request = self._request()
        context = self._config.ssl_context
        options: dict[str, Any] = {} if context is None else {"context": context}
        with urllib.request.urlopen(request, timeout=timeout, **options) as response:  # noqa: S310  checked: http(s)
            # An opener that the application installed may follow redirects after all, and as a GET without the body.
            if isinstance(response, HTTPResponse) and response.url != request.full_url:
                raise ConnectionError(f"The request was {self._redirected(response.url)}.")

    def _request(self) -> Request:
        import hashlib
        import hmac
        import urllib.request

        config = self._config
        request = urllib.request.Request(config.url, data=self._body, method="POST")  # noqa: S310  checked: http(s)
        for name, value in {"Content-Type": "application/json", **config.headers}.items():
            request.add_unredirected_header(name, value)
        if config.secret is not None:
            digest = hmac.new(config.secret.encode("utf-8"), self._body, hashlib.sha256).hexdigest()
            request.add_unredirected_header(SIGNATURE_HEADER, digest)
        # urllib counts redirects here, and raises at the one that is one too many: the first.
        most = urllib.request.HTTPRedirectHandler.max_redirections
        vars(request)["redirect_dict"] = dict.fromkeys(map(str, range(most)), 1)
        return request

    def _trouble(self, error: Exception) -> _Trouble:
        import ssl
        from http.client import HTTPException
        from urllib.error import HTTPError, URLError

        if isinstance(error, HTTPError):
            return self._refusal(error)
        cause = error.reason if isinstance(error, URLError) else error
        if isinstance(cause, TimeoutError):
            return _Trouble(TimeoutError(self._late()), 0.0)
        may_pass = isinstance(error, OSError | HTTPException) and not isinstance(cause, ssl.SSLCertVerificationError)
        text = text_of(cause) if isinstance(cause, BaseException) else str(cause)
        told = shorten(self._hide(text), ERROR_CHARS_MAX)
        # Most often it is told as it is: programs look at its type, and at the reason of a URLError.
        return _Trouble(error if told == text else URLError(told), 0.0 if may_pass else None)

    def _late(self) -> str:
        earlier = f"; the request before: {self._earlier.error}" if self._earlier else ""
        return f"No answer from {_origin(self._config.url)} within {self._config.timeout} s{earlier}"

    def _refusal(self, error: HTTPError) -> _Trouble:
        """Another error with the answer's status, and a text that says what the server did."""
        import io
        from urllib.error import HTTPError

        answer = self._answer(error)
        location = error.headers.get("Location") if error.headers else None
        if 300 <= error.code < 400 and location:
            text = self._redirected(location)
        else:
            reason = shorten(self._one_line(str(error.msg)), REASON_CHARS_MAX)
            text = f"{reason}; {_origin(self._config.url)} says: {answer}" if answer else reason
        told = HTTPError(_origin(self._config.url), error.code, text, error.headers, io.BytesIO())
        told.close()  # Its empty body: one that is collected open warns.
        may_pass = error.code >= 500 or error.code == TOO_MANY_REQUESTS
        return _Trouble(told, _retry_after(error) if may_pass else None)

    def _answer(self, error: HTTPError) -> str:
        """The beginning of the answer's body; "" when it has none, or is slow. Closes the answer."""

        def read() -> bytes:
            with error:
                answer: Any = error.fp
                found: bytes = answer.read1(ANSWER_BYTES_MAX)
                return found

        try:
            # In a thread as well, which closes it: while one waits for a byte, `close` in another waits with it.
            return self._one_line(within(min(self._left(), ANSWER_WAIT_S), read).decode("utf-8", "replace"))
        except Exception:  # noqa: BLE001  the status is told all the same
            return ""

    def _redirected(self, location: str) -> str:
        """Where to, without the path: it is ours, often, and so may be secret."""
        own = _origin(self._config.url)
        try:
            target = _origin(urljoin(self._config.url, location))
        except ValueError:
            target = _origin(location)
        place = f"another path of {own}" if target == own else target
        return f"redirected to {place}, which is not followed: WebhookConfig.url must be the final one"

    def _one_line(self, text: str) -> str:
        line = " ".join(self._hide(text).split())
        return "".join(character if character.isprintable() else "?" for character in line)

    def _hide(self, text: str) -> str:
        """Without our secrets, also where the last is cut off by the text's end."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        for secret in self._secrets:
            for size in range(len(secret) - 1, _SECRET_CHARS_MIN - 1, -1):
                if text.endswith(secret[:size]):
                    return text[:-size] + REDACTED
        return text


def _secrets(config: WebhookConfig) -> Iterator[str]:
    """What no error may quote: the secret, what headers and URL hold."""
    found = [config.secret or ""]
    for name, value in config.headers.items():
        if name.lower() not in _HARMLESS_HEADERS:
            text = _header_text(value)
            found += [text, *text.split()[1:]]  # "Bearer KEY" and KEY
    parts = urlsplit(config.url.strip())
    keys = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
    found += [part for key in keys if len(key) >= _KEY_CHARS_MIN for part in (key, unquote(key))]
    found += [parts.path + "?" + parts.query if parts.query else parts.path, parts.query]
    yield from (text for text in found if len(text) >= _SECRET_CHARS_MIN)


def _origin(url: str) -> str:
    """Scheme, host and port: what of a URL is no secret."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return "an address that cannot be"
    return f"{parts.scheme}://{parts.hostname}{port}" if parts.hostname else f"{parts.scheme}:"


def _retry_after(error: HTTPError) -> float:
    """Seconds that the answer asks to wait, in either form of RFC 9110, section 10.2.3; 0 when it does not."""
    import email.utils
    from datetime import UTC, datetime

    asked = str(error.headers.get("Retry-After", "") if error.headers else "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        at = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)
