"""A run that went wrong, told by mail: what a person on call reads, in every mode, and when no mail gets through."""

import html
import re
import signal
import socket
from typing import Any

import pytest

from processes import (
    EmailChannel,
    HTMLEmailStyle,
    Process,
    ProcessExecutionReport,
    ReportDeliveryError,
    SMTPConfig,
    Task,
    TaskDependency,
    TaskReportEntry,
)
from processes.comms.outline import LANGUAGES, why_of, words_of
from support.smtp import mail_server

SENDER, READER = "etl@example.com", "ops@example.com"


def load(rows: list[int], table: str) -> None:
    batch = [row for row in rows if row > 1]
    raise LookupError(f"no table {table!r} for {len(batch)} rows")


def refuse() -> None:
    raise ConnectionError("connection refused by <db>")


def nightly() -> Process:
    """One success, a failure with dependants, one that was tried again, one of which something was skipped."""
    return Process(
        [
            Task("extract", lambda: [1, 2, 3]),
            Task("load", load, kwargs={"table": "flights"}, dependencies=[TaskDependency("extract", True)]),
            Task("fetch", refuse, retries=1),
            Task("publish", print, dependencies=[TaskDependency("load")]),
            Task("digest", print, dependencies=[TaskDependency("publish")]),
        ],
        name="nightly",
    )


def mailed(report: ProcessExecutionReport, style: HTMLEmailStyle | None = None) -> tuple[str, str, str]:
    """Subject, plain text and visible text of the HTML of the mail that a report makes."""
    with mail_server() as server:
        channel = EmailChannel(SMTPConfig(server.address, SENDER, [READER], timeout=20), style)
        (sent,) = report.notify(channel)
    assert sent.delivered
    message = server.mails[0].message
    text, page = (part.get_content() for part in message.iter_parts())
    return message["Subject"], text, html.unescape(re.sub(r"<style>.*</style>|<[^>]*>", "", page, flags=re.DOTALL))


def test_mail_tells_a_person_on_call_what_happened(mode: str | None) -> None:
    """Of the run and of each failure, in both parts; then the rest."""
    report = nightly().run(mode)
    subject, text, page = mailed(report)
    assert " nightly | " in subject
    failure = report.entries["load"].error
    assert failure is not None
    for part in (page, text):
        said = " ".join(part.split())
        for told in (
            "LookupError: no table 'flights' for 2 rows",
            "table='flights'",
            "publish, digest",  # what was skipped because of it
            "batch = [2, 3]",
            f"had these values at {failure.traced_vars_location}:",
            "Traceback (most recent call last):",
            "in load",
            "1. ConnectionError: connection refused by <db> (",
            "2. ConnectionError: connection refused by <db> (",
            "it depends on 'load', which failed",
            "extract",
        ):
            assert told in said, told
        # The report's own; then those of each failure.
        assert said.count("Started") == said.count("Duration") >= 3
        assert ("Peak memory" in said) == (mode == "processes")


def connect(url: str, password: str) -> None:
    raise ConnectionError(f"cannot connect to {url}")


def test_mail_tells_no_secret(mode: str | None) -> None:
    """Neither of the arguments, nor of the exception, the traceback or the locals."""
    arguments = {"password": "hunter2-sesame"}
    report = Process([Task("connect", connect, args=("db://me:open-sesame@host",), kwargs=arguments)]).run(mode)
    _, text, page = mailed(report)
    assert "sesame" not in text + page
    said = " ".join(text.split())
    assert "Arguments 'db://me:[redacted]@host', password=[redacted]" in said
    assert "cannot connect to db://me:[redacted]@host" in said


def skipped_for(name: str) -> TaskReportEntry:
    """A task of a run that was never begun for that reason."""
    match name:
        case "dependency":
            return nightly().run().entries["publish"]
        case "fail fast":
            return Process([Task("fails", refuse), Task("later", print)]).run(fail_fast=True).entries["later"]
        case "deadline":
            return Process([Task("first", print), Task("later", print)]).run(deadline=1e-9).entries["later"]
        case _:
            interrupt = Task("interrupt", signal.raise_signal, args=(signal.SIGINT,))
            with pytest.raises(KeyboardInterrupt) as raised:
                Process([interrupt, Task("later", print)]).run()
            report: ProcessExecutionReport = vars(raised.value)["report"]
            return report.entries["later"]


@pytest.mark.parametrize("reason", ["dependency", "fail fast", "deadline", "interrupt"])
def test_reasons_that_a_run_gives_are_known_in_each_language(reason: str) -> None:
    """The sentence in the report is the one that is looked for: no mail falls back to English."""
    entry = skipped_for(reason)
    assert entry.why
    told = {language: why_of(entry, words_of(language)) for language in LANGUAGES}
    assert told["en"] == entry.why
    assert len(set(told.values())) == len(LANGUAGES)


@pytest.mark.parametrize(("name", "told"), [(None, ""), (5, "5")])
def test_run_of_a_process_with_a_name_of_any_kind_is_told(name: Any, told: str) -> None:  # noqa: ANN401  any kind
    """7.8, 14.5: its name is not checked, and kept as it is; None is none."""
    report = Process([Task("a", int)], name).run()
    assert report.process_name is name
    subject, text, page = mailed(report)
    assert re.fullmatch(rf"Process Execution Report {told}{' ' if told else ''}\| \d{{8}}", subject)
    assert text.splitlines()[0] == f"Process Execution Report{': ' if told else ''}{told}"
    assert "None" not in text + page
    assert str(report).startswith(f"{told}{': ' if told else ''}1 tasks: 1 success")


@pytest.mark.parametrize("language", LANGUAGES)
def test_mail_of_a_run_speaks_one_language(language: str) -> None:
    """Badges, labels and why a task was skipped, in both parts, and the subject."""
    words = words_of(language)
    subject, text, page = mailed(nightly().run(), HTMLEmailStyle(language=language))
    assert subject.startswith(words["lang_report_email_subject"])
    why = words["lang_why_dependency"].replace("{what}", "load")
    for part in (page, text):
        said = " ".join(part.split())
        assert all(words[f"lang_{key}"] in said for key in ("status_errored", "arguments_label", "traceback_title"))
        assert why in said
    assert all(words[f"lang_status_{status}"] in page for status in ("success", "errored", "skipped"))


def test_mail_that_does_not_get_through_is_returned_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The next channel is called; nothing is raised; the error says where it failed and what to do."""
    with socket.socket() as taken, mail_server() as server:
        taken.bind(("127.0.0.1", 0))  # Not listening: nobody else gets the port, and it refuses.
        channels = [EmailChannel(SMTPConfig(made, SENDER, READER)) for made in (taken.getsockname(), server.address)]
        failed, sent = nightly().run().notify(*channels, show_warnings=False)
    assert (failed.channel, failed.delivered, sent.delivered, sent.error) == ("EmailChannel", False, True, None)
    assert isinstance(failed.error, ReportDeliveryError)
    assert failed.error.step == "connecting"
    told = [record.getMessage() for record in caplog.records if record.name == "processes"]
    assert [text for text in told if "EmailChannel" in text] == [f"EmailChannel failed to send report: {failed.error}"]
    assert len(server.mails) == 1
