"""A planted secret is in nothing that leaves a run: log, report, JSON, print, mail, webhook."""

import json
import logging
from pathlib import Path
from typing import NoReturn

import pytest

from processes import (
    EmailChannel,
    Process,
    ProcessExecutionReport,
    SMTPConfig,
    Task,
    TaskDependency,
    WebhookChannel,
    WebhookConfig,
)
from support.http import Receiver
from support.smtp import mail_server

#: To be found nowhere.
PLANTED = "hunter2"
URL = f"postgres://me:{PLANTED}@db.example/etl"
KEY = f"-----BEGIN PRIVATE KEY-----\n{PLANTED}\n-----END PRIVATE KEY-----"


def connect(db: str, api_key: str, *, settings: dict[str, str]) -> NoReturn:
    password = PLANTED  # noqa: F841
    header = {"Authorization": f"Bearer {PLANTED}"}  # noqa: F841
    logging.getLogger("etl").info("connecting to %s", db)
    logging.getLogger("etl").info("Authorization: Bearer %s and %s", PLANTED, KEY)
    try:
        raise ValueError(f"bad key: {KEY}")  # noqa: TRY301  within a chain
    except ValueError:
        raise ConnectionError(f"refused: {db}")  # noqa: B904  a context is wanted


def answer() -> dict[str, object]:
    return {"url": URL, "access_token": PLANTED, "deep": [{"cookies": {"session": PLANTED}}], "n_tokens": 17}


def use(found: dict[str, object]) -> NoReturn:
    raise RuntimeError(f"{found['url']} did not answer")


def tasks(folder: Path) -> list[Task]:
    """Secrets in arguments, locals, log lines, exceptions, results, and results that are injected."""
    path = folder / "all.log"
    kwargs = {"api_key": PLANTED, "settings": {"db_password": PLANTED, "host": "db"}}
    return [
        Task("connect", connect, path, (URL,), kwargs),
        Task("answer", answer, path),
        Task("use", use, path, dependencies=[TaskDependency("answer", True)]),
    ]


def outputs(report: ProcessExecutionReport, folder: Path) -> dict[str, str]:
    """All that leaves the program, by way."""
    with mail_server() as server, Receiver() as receiver:
        sent = report.notify(
            EmailChannel(SMTPConfig(server.address, "a@example.com", ["b@example.com"])),
            WebhookChannel(WebhookConfig(f"{receiver.origin}/hook")),
        )
        assert [delivery.error for delivery in sent] == [None, None]
        parts = [part.get_content() for part in server.mails[0].message.iter_parts()]
        body = receiver.requests[0].body.decode()
    errors = [entry.error for entry in report.entries.values() if entry.error is not None]
    return {
        "log": (folder / "all.log").read_text(encoding="utf-8"),
        "errors": repr([(error.traceback_str, error.traced_vars, error.chain) for error in errors]),
        "json": report.to_json(),
        "print": report.to_text(details=True) + "".join(str(entry) for entry in report.entries.values()),
        "text": parts[0],
        "html": parts[1],
        "webhook": body,
    }


def test_planted_secrets_are_in_no_output(mode: str | None, tmp_path: Path) -> None:
    """C7: names that look secret, passwords of URLs, bearer tokens, private keys; the rest is told."""
    with Process(tasks(tmp_path)) as process:
        report = process.run(mode)
    told = outputs(report, tmp_path)
    assert {way for way, text in told.items() if PLANTED in text} == set()
    assert all("[redacted]" in text and "db.example" in text for text in told.values())
    document = json.loads(told["json"])
    assert document["entries"]["answer"]["result"]["n_tokens"] == 17
    assert ProcessExecutionReport.from_json(told["json"]).to_json() == told["json"]


def test_nothing_is_redacted_where_the_process_says_so(mode: str | None, tmp_path: Path) -> None:
    """`redact=False` reaches every output."""
    with Process(tasks(tmp_path), redact=False) as process:
        report = process.run(mode)
    told = outputs(report, tmp_path)
    assert {way for way, text in told.items() if "[redacted]" in text} <= {"print"}
    assert all(PLANTED in text for text in told.values())
    assert ProcessExecutionReport.from_json(told["json"]).to_json() == told["json"]


def test_rule_of_a_process_reaches_every_output(tmp_path: Path) -> None:
    """Names that it adds hide what stands under them."""

    def refuse(*, iban: str) -> NoReturn:
        raise ValueError("no such account")

    task = Task("pay", refuse, tmp_path / "all.log", kwargs={"iban": PLANTED})
    with Process([task, Task("tell", lambda: {"iban": PLANTED})], redact=("iban",)) as process:
        report = process.run()
    told = outputs(report, tmp_path)
    del told["print"]  # An entry that is printed by itself knows the default rule only.
    assert {way for way, text in told.items() if PLANTED in text} == set()


@pytest.mark.parametrize("name", ["password", "token"])
def test_value_itself_is_never_changed(name: str) -> None:
    """Only what is shown: the program's own objects are its own."""
    report = Process([Task("a", dict, kwargs={name: PLANTED})]).run()
    assert report.entries["a"].result == report.entries["a"].kwargs == {name: PLANTED}
