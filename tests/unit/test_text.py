"""A report as plain text, and a mail's subject: what they tell, and that they stay small and harmless."""

import re
from collections.abc import Callable
from datetime import date
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from processes.comms.outline import LANGUAGES, RENDERED_MAX, words_of
from processes.comms.text import SUBJECT_NAME_CHARS_MAX, WIDTH, render_text, subject_of
from processes.events import TaskStatus
from processes.report import ProcessExecutionReport, ReportContent, TaskReportEntry
from support.reports import GENERATED, HOSTILE, TRACEBACK, Unprintable, error, failed, report, skipped, succeeded

DAY = date(2026, 1, 2)


def render(
    made: ProcessExecutionReport | None = None, language: str = "en", *, errors_only: bool = False, **content: bool
) -> str:
    """The text of a report."""
    return render_text(
        report() if made is None else made,
        language=language,
        content=ReportContent(**content),
        errors_only=errors_only,
        generated_at=GENERATED,
    )


WHOLE = r"""Process Execution Report: nightly
=================================

Started             2026-01-02 04:04:05 CET
Duration            3 min 20 s
Successes           1
Errors              1
Skipped             2

Warnings of the Run
-------------------
- disk full

Errors (1)
----------

* load [Error]
  ValueError: no table 'flights'

  Function            load_table
  Arguments           'flights', year=2026
  Started             2026-01-02 04:04:07 CET
  Duration            3 min 12 s
  Attempts            2
  Peak memory         1.5 GiB
  Downstream Impact   publish, report

  Attempts:
    1. ConnectionError: refused (1 min 32 s)
    2. ValueError: no table 'flights' (1 min 40 s)

  Traceback:
    Traceback (most recent call last):
      File "/srv/etl/load.py", line 44, in load_table
        raise ValueError(table)
    ValueError: no table 'flights'

  The following local variables had these values at /srv/etl/load.py:44:
    table = 'flights'
    tries = 3

Skipped (2)
-----------
- publish: it depends on 'load', which failed
- report: it depends on 'load', which failed

Successes (1)
-------------
- extract: 1.25 s · 64.0 MiB

Report made at 2026-01-02 05:00:00 CET
"""


def test_text_tells_all() -> None:
    """As a person reads it."""
    made = report(succeeded(), failed(), skipped(), skipped("report"), warnings=("disk full",))
    assert render(made) == WHOLE


def test_text_leaves_out_what_is_not_wanted() -> None:
    """Traceback and locals, each by its own switch."""
    assert "Traceback" not in render(show_traceback=False)
    assert "tries = 3" in render(show_traceback=False)
    assert "Traceback" in render(show_traced_vars=False)
    assert "tries = 3" not in render(show_traced_vars=False)


def test_text_of_errors_names_no_success() -> None:
    """Counts are those of the whole report; it says that there are none."""
    made = report(succeeded("ok"), failed(), skipped(), warnings=("worker of 'ok' replaced", "disk full"))
    text = render(made, errors_only=True)
    assert "ok" not in text
    assert "publish:" not in text
    assert re.findall(r"(?:Successes|Errors|Skipped) +(\d)", text) == ["1", "1", "1"]
    assert "- Not shown here: 1 more" in text
    assert "No task failed." in render(report(succeeded()), errors_only=True)
    assert "No task failed." not in render(report(succeeded()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_speaks_one_language(language: str) -> None:
    """Every label, heading and badge."""
    words = words_of(language)
    text = render(report(failed(), succeeded(attempts=2), skipped(), warnings=("w",)), language)
    flowing = " ".join(text.split())
    not_used = {"not_shown", "characters_left_out", "in_short", "nothing_failed", "decimal_mark", "why_label"}
    not_used |= {"report_header_errors_only", "report_email_subject", "report_email_subject_errors"}
    not_used |= {"why_fail_fast", "why_deadline", "why_interrupted"}
    not_used |= {"report_title_prefix", "report_summary_title", "exception_label", "traced_vars_title"}
    not_used |= {"status_success", "status_skipped", "status_pending", "colon"}
    for key in words.keys() - {f"lang_{key}" for key in not_used}:
        shown = words[key].replace("{location}", "/srv/etl/load.py:44").replace("{when}", "2026-01-02 05:00:00 CET")
        shown = shown.replace("{what}", "load")
        assert shown in flowing, key


@pytest.mark.parametrize(("typed", "shown"), HOSTILE, ids=[ascii(typed) for typed, _ in HOSTILE])
def test_text_shows_hostile_text_as_it_was_typed(typed: str, shown: str) -> None:
    """In names, exceptions, locals; what would act on a terminal is an escape."""
    known = error(exception=typed, traceback_str=typed, traced_vars={typed: typed})
    text = render(report(failed(typed, error=known), name=typed))
    text.encode()
    assert f"* {shown} [Error]" in text
    assert f"  ValueError: {shown}" in text
    assert f"    {shown} = {shown}" in text or len(shown) * 2 > WIDTH - 7
    assert all(character == "\n" or character >= " " for character in text)


def test_text_shows_what_has_no_repr() -> None:
    """An argument whose repr raises costs its own place only."""
    text = " ".join(render(report(failed(args=(Unprintable(), 2)))).split())
    assert "<unreprable: RuntimeError: <no repr>>, 2, year=2026" in text


def test_text_wraps_what_is_long_as_deep_as_it_began() -> None:
    """No client wraps it once more."""
    long = "    raise SomethingError(" + "word " * 30 + ")"
    text = render(report(failed("n" * 300, error=error(traceback_str=f"{TRACEBACK}{long}\n{'x' * 200}"))))
    assert max(map(len, text.splitlines())) <= WIDTH
    lines = [line for line in text.splitlines() if "word" in line]
    assert len(lines) == 3
    assert all(line.startswith(" " * 8) and line[8] != " " for line in lines)
    assert "\n    " + "x" * (WIDTH - 4) + "\n" in text


GIANT = 10**6


def giant(text: str) -> TaskReportEntry:
    """A failure of which everything is huge."""
    huge = text * GIANT  # One text in all places: a thousand of them would be gigabytes.
    known = error(
        exception=huge,
        traceback_str=huge,
        traced_vars=dict.fromkeys((f"{text}{number}" for number in range(1000)), huge),
        downstream_impact=["d" * GIANT] * 1000,
    )
    return failed("n" * GIANT, args=(huge,) * 100, error=known)


#: {what there is much of: makes the entries}, by the test that looks at them: what a module keeps, each garbage
#: collection of the whole run goes through.
SIZES: dict[str, Callable[[], list[TaskReportEntry]]] = {
    "failures": lambda: [failed(f"task {number}") for number in range(10_000)],
    "successes": lambda: [succeeded(f"task {number}") for number in range(20_000)],
    "mixed": lambda: [make(f"{make.__name__} {n}") for n in range(10_000) for make in (succeeded, failed, skipped)],
    "giant of x": lambda: [giant("x")],
    "giant of four bytes": lambda: [giant("\U0001f469")],
    "giant of escapes": lambda: [giant("\x00")],
    "giant of lines": lambda: [giant("\n")],
    "giant of words": lambda: [giant(" x")],
}


@pytest.mark.parametrize("kind", SIZES)
def test_text_stays_small_whatever_it_tells(kind: str) -> None:
    """In bytes as well as in columns; it tells the counts, and how many more there are than it shows."""
    made = report(*SIZES[kind](), name="p" * GIANT, warnings=("w" * GIANT,) * 1000)
    text = render(made)
    assert len(text.encode()) <= RENDERED_MAX
    assert max(map(len, text.splitlines())) <= WIDTH
    counts = [str(len(entries)) for entries in (made.successes, made.errored, made.skipped)]
    assert re.findall(r"^(?:Successes|Errors|Skipped) +(\d+)$", text, re.MULTILINE) == counts
    shown = len(re.findall(r"^[-*] (?:task|failed|skipped|succeeded|n)", text, re.MULTILINE))
    left_out = [int(count) for count in re.findall(r"^Not shown here: (\d+) more", text, re.MULTILINE)]
    assert shown >= 1
    assert shown + sum(left_out) == len(made.entries)


# ---- the subject -----------------------------------------------------------------------------------------------------


def subject(name: str, language: str = "en", *, errors_only: bool = False) -> str:
    """The subject of a report of a process."""
    return subject_of(ProcessExecutionReport({}, name), language=language, errors_only=errors_only, day=DAY)


def test_subject_tells_what_it_is_of_whom_and_when() -> None:
    """As in 7.0.4; without a name, without a second space."""
    assert subject("nightly") == "Process Execution Report nightly | 20260102"
    assert subject("") == subject(" ") == "Process Execution Report | 20260102"
    assert subject("nightly", errors_only=True) == "Failed Tasks in Process nightly | 20260102"


@pytest.mark.parametrize("language", LANGUAGES)
def test_subject_speaks_the_language(language: str) -> None:
    """Of all tasks, and of failures only."""
    words = words_of(language)
    assert subject("p", language) == f"{words['lang_report_email_subject']} p | 20260102"
    assert subject("p", language, errors_only=True).startswith(words["lang_report_email_subject_errors"])


NAMES = [typed for typed, _ in HOSTILE] + [
    "x\nBcc: evil@example.com",
    "x\r\n\r\n<h1>hi</h1>",
    "a\x85b\u2028c\u2029d\x0be\x0cf",
    "n" * GIANT,
    "=?utf-8?q?x=0ABcc:_evil?=",
    "=\x00?utf-8?q?x?=",
    "ü" * 1000,
]


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
def test_subject_is_one_safe_line_whatever_the_name(name: str) -> None:
    """It can be a header, adds none, and comes out of the message as it went in."""
    text = subject(name)
    assert text.isprintable() or "\u200d" in text
    assert len(text) <= SUBJECT_NAME_CHARS_MAX + 50
    message = EmailMessage(policy=SMTP)
    message["Subject"] = text
    message.set_content("body")
    head, _, body = message.as_bytes().partition(b"\r\n\r\n")
    assert b"Bcc" not in re.findall(rb"^[\w-]+", head, re.MULTILINE)
    assert body == b"body\r\n"
    assert message_from_bytes(message.as_bytes(), policy=SMTP)["Subject"] == text


def test_subject_shows_control_characters_as_a_blank() -> None:
    """One for as many as there are in a row."""
    assert subject("x\nBcc: y") == "Process Execution Report x Bcc: y | 20260102"
    assert subject("a\x00\u202eb\n") == "Process Execution Report a b | 20260102"


def test_subject_cuts_a_long_name() -> None:
    """The date stays."""
    text = subject("n" * GIANT)
    assert text == f"Process Execution Report {'n' * (SUBJECT_NAME_CHARS_MAX - 1)}… | 20260102"
    assert subject("n" * SUBJECT_NAME_CHARS_MAX).count(
        "n"
    ) == SUBJECT_NAME_CHARS_MAX + "Process Execution Report".count("n")


def test_text_tells_a_task_that_never_ran_nor_was_skipped() -> None:
    """A report built by hand may hold one."""
    assert "- publish\n" in render(report(skipped(status=TaskStatus.PENDING, why="")))
