"""A report sent by mail, to real servers on the loopback: what arrives, what is refused, and what never hangs."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import compat32
from pathlib import Path
from typing import TypeAlias

import pytest
import trustme

from processes import ProcessExecutionReport, TaskReportEntry, TaskStatus
from processes.comms import smtp
from processes.comms.email import EmailChannel, SMTPConfig
from processes.comms.html import HTMLEmailStyle
from processes.comms.outline import words_of
from processes.comms.text import SUBJECT_NAME_CHARS_MAX
from processes.exceptions import ReportDeliveryError
from processes.report import ReportContent
from support.clock import Clock
from support.smtp import HOST, PASSWORD, USER, Fault, ScriptedServer, full_listener, mail_server, server_context

SENDER = "etl@example.com"
READER = "ops@example.com"
CREDENTIALS = (USER, PASSWORD)

#: Far more than any answer takes, and short enough to wait once for those that never come.
TIMEOUT_S = 1.0

#: For a server that is to answer nothing at all.
BRIEF_S = 0.1

#: {step at which the server fails: what the error calls it}
NAMED = {
    "banner": "waiting for the greeting",
    "EHLO": "EHLO",
    "STARTTLS": "STARTTLS",
    "handshake": "TLS handshake",
    "AUTH": "login",
    "MAIL": "MAIL FROM",
    "RCPT": "RCPT TO",
    "DATA": "DATA",
    "body": "sending the message",
    "message": "waiting for the message to be accepted",
    "TLS at once": "TLS handshake",
}


class Certificates:
    """What an authority of ours has signed, and what trusts it."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.file = str(folder / "authority.pem")
        self.authority.cert_pem.write_to_path(self.file)
        self.server = self.server_for(HOST)
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)

    def server_for(self, name: str, not_after: datetime | None = None) -> ssl.SSLContext:
        return server_context(self.authority, self.authority.issue_cert(name, not_after=not_after))

    def self_signed(self) -> ssl.SSLContext:
        return server_context(trustme.CA(), None)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """One authority for all tests."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The system trusts the authority."""
    monkeypatch.setenv("SSL_CERT_FILE", certificates.file)
    return certificates


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """A port where everybody may come; `nobody_came` tells."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def nobody_came(listener: socket.socket) -> bool:
    """Whether no connection waits."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def config(address: tuple[str, int], /, **changes: object) -> SMTPConfig:
    """To one reader through that server, but for what is said otherwise."""
    configuration = SMTPConfig(address, SENDER, [READER], timeout=20)
    for name, value in changes.items():
        assert hasattr(configuration, name)
        setattr(configuration, name, value)
    return configuration


def report(name: str = "nightly") -> ProcessExecutionReport:
    """One success, one failure."""
    entries = {
        task: TaskReportEntry(task, "work", (), {}, status, 0.1, 1)
        for task, status in (("good", TaskStatus.SUCCESS), ("bad", TaskStatus.ERRORED))
    }
    return ProcessExecutionReport(entries, name)


def send(configuration: SMTPConfig, name: str = "nightly") -> None:
    """The report, all of it."""
    EmailChannel(configuration).send_report(report(name), errors_only=False)


def failure_of(configuration: SMTPConfig) -> ReportDeliveryError:
    """The error of a send that fails."""
    with pytest.raises(ReportDeliveryError) as caught:
        send(configuration)
    return caught.value


# What arrives.


def test_mail_has_text_then_html_and_its_headers() -> None:
    """Both parts in UTF-8, the plain one first; who, what, when, and that no machine need answer."""
    with mail_server() as server:
        before = datetime.now(UTC)
        send(config(server.address, toaddrs=[READER, "boss@example.com"]))
    (mail,) = server.mails
    assert (mail.sender, mail.recipients, mail.encrypted) == (SENDER, [READER, "boss@example.com"], False)
    message = mail.message
    assert message.get_content_type() == "multipart/alternative"
    parts = [(part.get_content_type(), part.get_content_charset()) for part in message.iter_parts()]
    assert parts == [("text/plain", "utf-8"), ("text/html", "utf-8")]
    assert message["From"] == SENDER
    assert f"To: {READER},boss@example.com\r\n".encode() in mail.content
    assert re.fullmatch(r"Process Execution Report.* nightly \| \d{8}", message["Subject"])
    assert re.search(rb"^Date: .* -0000\r$", mail.content, re.MULTILINE)  # UTC, of an unknown place, as ever
    assert [part["Content-Transfer-Encoding"] for part in message.iter_parts()] == ["base64", "base64"]
    assert before - timedelta(seconds=1) <= message["Date"].datetime.replace(tzinfo=UTC) <= datetime.now(UTC)
    assert re.fullmatch(r"<.+@example\.com>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize("zone", ["EAST-14", "WEST+12"])  # In one of them it is another day than in Greenwich.
def test_subject_has_the_local_date(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """17.3: that of the place where the program runs."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        days = [time.strftime("%Y%m%d")]
        with mail_server() as server:
            send(config(server.address))
        days.append(time.strftime("%Y%m%d"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert server.mails[0].message["Subject"].rpartition(" | ")[2] in days


def test_mail_of_errors_only_is_rendered_as_such() -> None:
    """The renderers are told, and so are style and content."""
    content = ReportContent(show_traceback=False)
    with mail_server() as server:
        channel = EmailChannel(config(server.address), HTMLEmailStyle("slate", "es"), content)
        channel.send_report(report(), errors_only=True)
    message = server.mails[0].message
    text, html = (part.get_content() for part in message.iter_parts())
    assert message["Subject"].startswith(words_of("es")["lang_report_email_subject_errors"] + " nightly | ")
    assert [("bad" in body, "good" in body) for body in (text, html)] == [(True, False)] * 2
    assert 'lang="es"' in html


def test_channel_keeps_what_it_is_given_and_has_defaults() -> None:
    """Attributes of the parameters' names."""
    given = config(("localhost", 25))
    channel = EmailChannel(given)
    assert (channel.style, channel.content) == (HTMLEmailStyle(), ReportContent())
    content, style = ReportContent(), HTMLEmailStyle(language="de")
    channel = EmailChannel(given, style, content)
    assert channel.smtp_config is given
    assert channel.style is style
    assert channel.content is content


def test_config_takes_its_first_six_values_in_order_and_hides_the_password() -> None:
    """As 7.0.4 had them; all can be changed later."""
    configuration = SMTPConfig("h", "f", ["t"], ("u", "hunter2"), (), 7)
    assert (configuration.mailhost, configuration.fromaddr, configuration.toaddrs) == ("h", "f", ["t"])
    assert (configuration.credentials, configuration.secure, configuration.timeout) == (("u", "hunter2"), (), 7)
    assert configuration.security is None
    configuration.timeout = 8
    SMTPConfig(None, 1, [], "u", "", -1)  # type: ignore[arg-type]  # 16.2: checked when a report is sent
    assert "hunter2" not in repr(configuration)
    assert "timeout=8" in repr(configuration)


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r", "\x0b", "\x85", "\u2028"])
def test_line_break_in_process_name_stays_in_the_subject(break_: str) -> None:
    """It ends no header and adds none."""
    with mail_server() as server:
        send(config(server.address), name=f"x{break_}Bcc: evil@example.com{break_}{break_}<h1>hi</h1>")
    (mail,) = server.mails
    assert mail.recipients == [READER]
    assert "x Bcc: evil@example.com <h1>hi</h1> |" in mail.message["Subject"]
    assert mail.message["Bcc"] is None
    assert mail.message["Auto-Submitted"] == "auto-generated"


def test_names_beyond_ascii_arrive() -> None:
    """In the subject, the sender's name and a recipient's, whatever it has in it."""
    with mail_server() as server:
        recipients = ['"Ops, Team" <ops@example.com>', "Zoë (night) <zoe@example.com>"]
        send(
            config(server.address, toaddrs=recipients, fromaddr="Jürgen <j@example.com>"), name="Überführung 夜 \udcff"
        )
    (mail,) = server.mails
    assert (mail.sender, mail.recipients) == ("j@example.com", ["ops@example.com", "zoe@example.com"])
    assert mail.message["From"].addresses[0].display_name == "Jürgen"
    assert [to.display_name for to in mail.message["To"].addresses] == ["Ops, Team", "Zoë (night)"]
    assert "Report Überführung 夜 | " in mail.message["Subject"]


@pytest.mark.parametrize("word", ["x", "two words ", "größer ", "夜"])
@pytest.mark.parametrize("length", [SUBJECT_NAME_CHARS_MAX, 2000], ids=["just fits", "too long"])
def test_long_subject_arrives(word: str, length: int) -> None:
    """In lines that servers take, without a loss but for what the subject itself leaves out."""
    name = (word * length)[: length - 1] + "."
    with mail_server() as server:
        send(config(server.address, fromaddr=f"{name} <{SENDER}>"), name=name)
    (mail,) = server.mails
    shown = name if length == SUBJECT_NAME_CHARS_MAX else f"{name[: SUBJECT_NAME_CHARS_MAX - 1]}…"
    assert f" {shown} | " in mail.message["Subject"]
    # By the older of the two decoders in `email`: the other one leaves the blanks between encoded words in a name.
    head = message_from_bytes(mail.content, policy=compat32)
    assert str(make_header(decode_header(head["From"]))) == f"{name} <{SENDER}>"
    assert max(map(len, mail.content.split(b"\r\n"))) < 998


def test_many_recipients_arrive_in_lines_that_servers_take() -> None:
    """The header is folded, and every address is in it."""
    recipients = [f"reader{number}@example.com" for number in range(200)]
    with mail_server() as server:
        send(config(server.address, toaddrs=recipients))
    (mail,) = server.mails
    assert mail.recipients == recipients
    assert [to.addr_spec for to in mail.message["To"].addresses] == recipients


def test_addresses_beyond_ascii_need_a_server_that_takes_them() -> None:
    """With SMTPUTF8 they arrive; without, the error says so."""
    configuration = config(("", 25), toaddrs=["zoë@example.com"], fromaddr="jürgen@bücher.example")
    with mail_server(smtputf8=True) as server:
        configuration.mailhost = server.address
        send(configuration)
    assert (server.mails[0].sender, server.mails[0].recipients) == ("jürgen@bücher.example", ["zoë@example.com"])
    assert "\r\nTo: zoë@example.com\r\n".encode() in server.mails[0].content
    with mail_server() as server:
        configuration.mailhost = server.address
        error = failure_of(configuration)
    assert error.step == "MAIL FROM"
    assert "SMTPUTF8" in str(error)
    assert "xn--" in str(error)
    assert server.mails == []


def test_one_address_needs_no_list() -> None:
    """A str is one address, not its letters."""
    with mail_server() as server:
        send(config(server.address, toaddrs=READER))
    assert server.mails[0].recipients == [READER]
    assert server.mails[0].message["To"] == READER


# Encryption.


def _no_files(certificates: Certificates, folder: Path) -> tuple[object, ...]:
    return ()


def _key_file(certificates: Certificates, folder: Path) -> tuple[object, ...]:
    both = folder / "both.pem"
    certificates.authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(both))
    return (str(both),)


def _key_and_certificate(certificates: Certificates, folder: Path) -> tuple[object, ...]:
    leaf = certificates.authority.issue_cert("client")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return str(folder / "key.pem"), str(folder / "cert.pem")


def _context(certificates: Certificates, folder: Path) -> tuple[object, ...]:
    return None, None, certificates.client


@pytest.mark.parametrize("credentials", [None, CREDENTIALS], ids=["anonymous", "login"])
@pytest.mark.parametrize(
    ("form", "client"),
    [(_no_files, ()), (_key_file, ("client",)), (_key_and_certificate, ("client",)), (_context, ())],
)
def test_secure_means_starttls(
    form: Callable[[Certificates, Path], tuple[object, ...]],
    client: tuple[str, ...],
    credentials: tuple[str, str] | None,
    trusted: Certificates,
    tmp_path: Path,
) -> None:
    """In each of its forms, with credentials or without; files are the client's certificate."""
    with mail_server(starttls=trusted.server) as server:
        send(config(server.address, credentials=credentials, secure=form(trusted, tmp_path)))
    (mail,) = server.mails
    assert (mail.encrypted, mail.client, mail.user) == (True, client, USER if credentials else None)


@pytest.mark.parametrize("options", [{"security": "starttls"}, {"credentials": CREDENTIALS}], ids=str)
def test_starttls_without_secure(options: dict[str, object], trusted: Certificates) -> None:
    """Asked for by name, or by what may not be seen."""
    with mail_server(starttls=trusted.server) as server:
        send(config(server.address, **options))
    assert server.mails[0].encrypted


@pytest.mark.parametrize("secure", [None, ()])
def test_implicit_tls(secure: tuple[()] | None, trusted: Certificates) -> None:
    """TLS from the first byte, checked as well."""
    with mail_server(implicit_tls=trusted.server) as server:
        send(config(server.address, credentials=CREDENTIALS, secure=secure, security="ssl"))
    (mail,) = server.mails
    assert (mail.encrypted, mail.user) == (True, USER)


@pytest.mark.parametrize("options", [{}, {"security": "none"}, {"allow_plaintext_login": True}], ids=str)
def test_clear_text_when_nothing_asks_for_more(options: dict[str, object]) -> None:
    """The default of 7.0.4, or by name; a login only where it is allowed."""
    credentials = CREDENTIALS if "allow_plaintext_login" in options else None
    with mail_server() as server:
        send(config(server.address, credentials=credentials, **options))
    (mail,) = server.mails
    assert (mail.encrypted, mail.user) == (False, USER if credentials else None)


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_certificate_of_an_unknown_authority_stops_the_mail(security: str, certificates: Certificates) -> None:
    """No login, no mail; the way out is named."""
    context = certificates.server
    is_implicit = security == "ssl"
    with mail_server(implicit_tls=context) if is_implicit else mail_server(starttls=context) as server:
        error = failure_of(config(server.address, credentials=CREDENTIALS, security=security))
    assert error.step == "TLS handshake"
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert "not trusted" in str(error)
    assert "cafile" in str(error)
    assert server.mails == []


def test_self_signed_certificate_stops_the_mail(trusted: Certificates) -> None:
    """Anybody can make one; not a word of the login is said to it."""
    with mail_server(starttls=trusted.self_signed()) as server:
        error = failure_of(config(server.address, credentials=CREDENTIALS))
    assert error.step == "TLS handshake"
    assert "not trusted: self-signed certificate" in str(error)
    assert server.mails == []


def test_expired_certificate_stops_the_mail(trusted: Certificates) -> None:
    """The error says what is wrong with it."""
    context = trusted.server_for(HOST, not_after=datetime(2020, 1, 1, tzinfo=UTC))
    with mail_server(starttls=context) as server:
        error = failure_of(config(server.address, secure=()))
    assert error.step == "TLS handshake"
    assert "expired" in str(error)
    assert server.mails == []


def test_certificate_for_another_host_stops_the_mail(trusted: Certificates) -> None:
    """It may be anybody's."""
    with mail_server(starttls=trusted.server_for("mail.example.com")) as server:
        error = failure_of(config(server.address, secure=()))
    assert error.step == "TLS handshake"
    assert "Hostname mismatch" in str(error)
    assert server.mails == []


@pytest.mark.parametrize("options", [{"secure": ()}, {"security": "starttls"}, {"credentials": CREDENTIALS}], ids=str)
def test_server_without_starttls_gets_nothing(options: dict[str, object]) -> None:
    """What is to be encrypted is not sent in clear text: neither password nor mail."""
    with ScriptedServer({"EHLO": b"250-localhost\r\n250 AUTH PLAIN"}) as server:
        error = failure_of(config(server.address, **options))
    assert error.step == "STARTTLS"
    assert "does not offer" in str(error)
    assert server.heard == ["EHLO"]


def test_refused_starttls_ends_it(trusted: Certificates) -> None:
    """Offered, then refused: as above, with the server's words."""
    with ScriptedServer({"STARTTLS": b"454 no keys today"}) as server:
        error = failure_of(config(server.address, secure=()))
    assert "STARTTLS: 454 no keys today. Check" in str(error)
    assert server.heard == ["EHLO", "STARTTLS"]


def test_tls_from_the_first_byte_to_a_server_without_is_told() -> None:
    """The usual mistake about ports, told with the way out; nothing was said in clear text."""
    with ScriptedServer() as server:
        error = failure_of(config(server.address, credentials=CREDENTIALS, security="ssl"))
    assert error.step == "TLS handshake"
    assert 'security="starttls"' in str(error)
    assert server.heard == []


def test_words_before_tls_are_forgotten(trusted: Certificates) -> None:
    """An answer smuggled in before the handshake is not taken for one that came through TLS."""
    with ScriptedServer({"STARTTLS": b"220 go on\r\n554 smuggled"}, context=trusted.server) as server:
        send(config(server.address, secure=()))
    assert server.heard == ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT", "DATA", "message", "QUIT"]


# Refusals.


def test_refused_login_is_told_without_the_password(trusted: Certificates) -> None:
    """The server's words, and where to look."""
    with mail_server(starttls=trusted.server) as server:
        error = failure_of(config(server.address, credentials=(USER, "wrong-word"), secure=()))
    assert (error.host, error.port, error.step) == (*server.address, "login")
    assert "535" in str(error)
    assert "credentials" in str(error)
    assert "wrong-word" not in repr(error) + str(error)


@pytest.mark.parametrize("step", ["AUTH", "MAIL", "RCPT", "message"])
def test_password_that_a_server_repeats_is_not_told(step: str) -> None:
    """As it is, or as it went over the wire."""
    wire = "AHJlcG9ydGVyAGh1bnRlcjItc2VzYW1l"
    # What is cut off for its length must not leave half of it.
    answer = f"535 {PASSWORD} {wire} no\x1b[31m {'x' * 235} {PASSWORD}".encode()
    with ScriptedServer({step: answer}) as server:
        error = failure_of(config(server.address, credentials=CREDENTIALS, allow_plaintext_login=True))
    assert "535 [redacted] [redacted] no [31m" in str(error)
    for text in (str(error), repr(error), *error.refused.values()):
        assert PASSWORD not in text
        assert wire not in text
        assert PASSWORD[:4] not in text
    assert error.__cause__ is None


def test_server_without_login_is_told() -> None:
    """It does not go on without."""
    with ScriptedServer({"EHLO": b"250 localhost"}) as server:
        error = failure_of(config(server.address, credentials=CREDENTIALS, allow_plaintext_login=True))
    assert error.step == "login"
    assert "not supported" in str(error)
    assert server.heard == ["EHLO"]


def test_refused_recipient_is_named_and_the_others_get_the_mail() -> None:
    """A silent loss would be worse than an error after a delivery."""
    with mail_server(refused={"gone@example.com"}) as server:
        error = failure_of(config(server.address, toaddrs=["gone@example.com", READER]))
    assert [mail.recipients for mail in server.mails] == [[READER]]
    assert error.refused == {"gone@example.com": "550 no mailbox gone@example.com"}
    assert str(error).startswith(f"The report was mailed by {HOST}:{server.address[1]}, but not to all: refused gone@")
    assert "toaddrs" in str(error)


def test_mail_without_any_recipient_left_is_not_sent() -> None:
    """All of them are named."""
    everybody = ["gone@example.com", READER]
    with mail_server(refused=everybody) as server:
        error = failure_of(config(server.address, toaddrs=everybody))
    assert server.mails == []
    assert error.step == "RCPT TO"
    assert list(error.refused) == everybody
    assert str(error).startswith("The report was not mailed by")


@pytest.mark.parametrize("step", ["banner", "EHLO", "MAIL", "DATA", "message"])
def test_refusal_at_any_step_is_told(step: str) -> None:
    """With the server's words."""
    answers = {step: b"554 not from you", "HELO": b"554 not from you"}
    with ScriptedServer(answers) as server:
        error = failure_of(config(server.address))
    assert error.step == NAMED[step]
    assert "554 not from you" in str(error)


def test_server_that_knows_only_helo_gets_the_mail() -> None:
    """The old greeting will do."""
    with ScriptedServer({"EHLO": b"502 what"}) as server:
        send(config(server.address))
    assert server.heard == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "message", "QUIT"]


def test_something_else_than_a_mail_server_is_told() -> None:
    """A web server, say."""
    with ScriptedServer({"banner": b"HTTP/1.1 400 Bad Request"}) as server:
        error = failure_of(config(server.address))
    assert error.step == NAMED["banner"]
    assert "no answer of SMTP" in str(error)
    assert "mailhost" in str(error)


# Silence.


#: What servers do in place of an answer, and when.
FAULTS = [(fault, step) for fault in (Fault.HANG, Fault.DROP) for step in NAMED]
FAULTS += [(Fault.DRIP, step) for step in ("banner", "AUTH", "message")]
FAULTS += [(fault, "QUIT") for fault in Fault]

Outcomes: TypeAlias = dict[tuple[Fault, str], tuple[ReportDeliveryError | None, list[str]]]


@pytest.fixture(scope="module")
def outcomes(certificates: Certificates) -> Outcomes:
    """
    The error for each of the FAULTS, and what the server had heard.

    All of them at a time, so that the time-out, which is long for the answers that come, is waited for once.
    """

    def outcome(fault: Fault, step: str) -> tuple[ReportDeliveryError | None, list[str]]:
        with ScriptedServer(
            {"banner" if step == "TLS at once" else step: fault}, context=certificates.server
        ) as server:
            try:
                send_to(server, step)
            except ReportDeliveryError as error:
                return error.with_traceback(None), server.heard
            return None, server.heard

    def send_to(server: ScriptedServer, step: str) -> None:
        secure = (None, None, certificates.client)
        if step == "body":  # A message larger than what the system keeps for a connection; no report is, today.
            route = smtp.Route(*server.address, "none", None, None, TIMEOUT_S, SENDER, (READER,))
            smtp.deliver(route, b"line\r\n" * 2_000_000)
        else:
            security = "ssl" if step == "TLS at once" else "starttls"
            send(config(server.address, credentials=CREDENTIALS, secure=secure, security=security, timeout=TIMEOUT_S))

    with ThreadPoolExecutor(len(FAULTS)) as senders:
        return dict(zip(FAULTS, senders.map(outcome, *zip(*FAULTS, strict=True)), strict=True))


def _fault_name(value: object) -> str:
    return value.name if isinstance(value, Fault) else str(value)


@pytest.mark.parametrize(("fault", "step"), [made for made in FAULTS if made[1] != "QUIT"], ids=_fault_name)
def test_server_that_hangs_hangs_up_or_drips_is_given_up_at_each_step(
    fault: Fault, step: str, outcomes: Outcomes
) -> None:
    """The error says where, for how long it was waited, and whether the mail may have been taken all the same."""
    error, _ = outcomes[fault, step]
    assert error is not None
    assert error.step == NAMED[step]
    if fault is Fault.DROP:
        assert "the server closed the connection" in str(error)
    else:
        assert "no answer within 1 s" in str(error)
        assert "timeout=" in str(error)
    assert ("not known" in str(error)) == (step == "message")


@pytest.mark.parametrize("fault", Fault, ids=_fault_name)
def test_how_a_server_parts_is_its_own_affair(fault: Fault, outcomes: Outcomes) -> None:
    """It has taken the mail: nothing that follows is an error."""
    error, heard = outcomes[fault, "QUIT"]
    assert error is None
    assert heard[-2:] == ["message", "QUIT"]


def test_refused_farewell_is_no_error() -> None:
    """As above."""
    with ScriptedServer({"QUIT": b"500 what"}) as server:
        send(config(server.address))
    assert server.heard[-2:] == ["message", "QUIT"]


def test_server_that_is_slow_all_the_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer comes in time, after half of it; all of them do not."""
    clock = Clock()
    monkeypatch.setattr(smtp, "time", clock)

    def answer_late(command: str) -> None:
        clock.now += 10.0

    readers = [f"reader{number}@example.com" for number in range(50)]
    with ScriptedServer(before_answer=answer_late) as server:
        error = failure_of(config(server.address, toaddrs=readers, timeout=20))
    assert error.step == "RCPT TO"
    assert "not done 120 s after the beginning" in str(error)
    assert server.heard == ["EHLO", "MAIL", *["RCPT"] * 10]


def test_host_that_lets_nobody_in_is_given_up() -> None:
    """Connecting is bounded too."""
    with full_listener() as address:
        error = failure_of(config(address, timeout=BRIEF_S))
    assert error.step == "connecting"
    assert f"no answer within {BRIEF_S} s" in str(error)


def test_name_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking the host up is a part of connecting."""
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait())
    try:
        error = failure_of(config(("mail.example.com", 25), timeout=BRIEF_S))
    finally:
        asked.set()
    assert error.step == "connecting"
    assert f"no answer within {BRIEF_S} s" in str(error)


def test_closed_port_and_unknown_host_are_told() -> None:
    """Before anything is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    refused = failure_of(config(address))
    assert refused.step == "connecting"
    assert "Connection refused" in str(refused)
    assert f"127.0.0.1:{address[1]}" in str(refused)
    unknown = failure_of(config(("nowhere.invalid", 25)))
    assert unknown.step == "connecting"
    assert "nowhere.invalid:25" in str(unknown)
    assert isinstance(unknown, OSError)
    assert failure_of(config(("a." * 200, 25))).step == "connecting"


# What cannot be meant.


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"toaddrs": []}, ValueError, "toaddrs is empty"),
        ({"toaddrs": ""}, ValueError, r"toaddrs\[0\] is no mail address"),
        ({"toaddrs": 7}, TypeError, "toaddrs must be a list"),
        ({"toaddrs": [READER, None]}, TypeError, r"toaddrs\[1\] must be a str"),
        ({"toaddrs": f"{READER}, boss@example.com"}, ValueError, "several as a list"),
        ({"toaddrs": [f"{READER}\nBcc: evil@example.com"]}, ValueError, "no mail address"),
        ({"toaddrs": [f"Ops\r\nBcc: evil@example.com <{READER}>"]}, ValueError, "no mail address"),
        ({"toaddrs": [f"Ops <{READER}"]}, ValueError, "no mail address"),
        ({"toaddrs": ["a@b@c"]}, ValueError, "no mail address"),
        ({"toaddrs": ["two words@example.com"]}, ValueError, "no mail address"),
        ({"fromaddr": "a@b.c\n"}, ValueError, "fromaddr is no mail address"),
        ({"fromaddr": "<>"}, ValueError, "fromaddr is no mail address"),
        ({"fromaddr": None}, TypeError, "fromaddr must be a str"),
        ({"mailhost": "mail.example.com:587"}, ValueError, r"\(host, port\)"),
        ({"mailhost": 25}, TypeError, r"\(host, port\)"),
        ({"mailhost": ("", 25)}, ValueError, "host in mailhost"),
        ({"mailhost": ("mail\n", 25)}, ValueError, "host in mailhost"),
        ({"mailhost": ("mail", "25")}, TypeError, "port in mailhost"),
        ({"mailhost": ("mail", True)}, TypeError, "port in mailhost"),
        ({"mailhost": ("mail", 0)}, ValueError, "port in mailhost"),
        ({"timeout": 0}, TypeError, "timeout must be a positive number"),
        ({"timeout": True}, TypeError, "timeout must be a positive number"),
        ({"timeout": None}, TypeError, "timeout must be a positive number"),
        ({"timeout": float("nan")}, TypeError, "timeout must be a positive number"),
        ({"timeout": float("inf")}, TypeError, "timeout must be a positive number"),
        ({"credentials": "user:hunter2"}, TypeError, "credentials must be"),
        ({"credentials": ("user", None)}, TypeError, "credentials must be"),
        ({"credentials": ("user", "hünter2")}, ValueError, "credentials must be ASCII"),
        ({"security": "tls"}, ValueError, "security must be one of"),
        ({"security": "none", "secure": ()}, ValueError, "drop one of them"),
        ({"security": "none", "credentials": CREDENTIALS}, ValueError, "allow_plaintext_login"),
        ({"secure": "key.pem"}, TypeError, "secure must be"),
        ({"secure": (None, None, None, None)}, TypeError, "secure must be"),
        ({"secure": (None, None, "context")}, TypeError, r"secure\[2\] must be"),
        pytest.param(
            {"secure": ("key.pem", None, ssl.create_default_context())}, ValueError, "load_cert_chain", id="two keys"
        ),
        ({"secure": ("no such file",)}, ValueError, "no such file"),
    ],
    ids=str,
)
def test_config_that_cannot_be_meant_is_refused_before_connecting(
    options: dict[str, object], kind: type[Exception], text: str, deaf: socket.socket
) -> None:
    """TypeError for types, ValueError for values; no message has the password."""
    configuration = config(deaf.getsockname(), **options)
    with pytest.raises(kind, match=text) as caught:
        send(configuration)
    assert "hunter2" not in str(caught.value)
    assert "hünter2" not in str(caught.value)
    assert nobody_came(deaf)


def test_encrypted_key_is_refused_before_connecting(
    certificates: Certificates, tmp_path: Path, deaf: socket.socket
) -> None:
    """A report is sent where nobody sits."""
    leaf = certificates.authority.issue_cert("client")
    encrypted = tmp_path / "key.pem"
    encrypted.write_bytes(_encrypted(leaf.private_key_pem.bytes()) + leaf.cert_chain_pems[0].bytes())
    with pytest.raises(ValueError, match="encrypted"):
        send(config(deaf.getsockname(), secure=(str(encrypted),)))
    assert nobody_came(deaf)


def _encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_report_that_cannot_be_rendered_never_connects(deaf: socket.socket) -> None:
    """The error is the renderer's own."""
    channel = EmailChannel(config(deaf.getsockname()))
    with pytest.raises(AttributeError):
        channel.send_report(None, errors_only=False)  # type: ignore[arg-type]
    assert nobody_came(deaf)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mailhost": "mail"}, ("mail", 25, "none")),
        ({"mailhost": "mail", "security": "ssl"}, ("mail", 465, "ssl")),
        ({"mailhost": ["::1", 2525]}, ("::1", 2525, "none")),
        ({"mailhost": ("mail", 465)}, ("mail", 465, "ssl")),
        ({"mailhost": ("mail", 465), "secure": ()}, ("mail", 465, "ssl")),
        ({"mailhost": ("mail", 465), "security": "starttls"}, ("mail", 465, "starttls")),
        ({"mailhost": "mail", "credentials": CREDENTIALS}, ("mail", 25, "starttls")),
        ({"mailhost": "mail", "credentials": CREDENTIALS, "allow_plaintext_login": True}, ("mail", 25, "none")),
    ],
    ids=str,
)
def test_server_and_security_are_derived(
    options: dict[str, object], expected: tuple[str, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ports are those that everybody has: seen where the mail would leave, since they cannot be opened here."""
    routes: list[smtp.Route] = []
    monkeypatch.setattr(smtp, "deliver", lambda route, message: routes.append(route))
    send(config(("", 25), **options))
    (route,) = routes
    assert (route.host, route.port, route.security) == expected
    assert (route.context is None) == (route.security == "none")
    assert PASSWORD not in repr(route)
