"""A report as plain text, for a terminal or beside the HTML of a mail, and a mail's subject. Pure; for the parent."""

from __future__ import annotations

import re
import textwrap
from datetime import date, datetime

from processes.comms import outline
from processes.comms.outline import Fitted, Outline, Words
from processes.error_data import ErrorData
from processes.redaction import DEFAULT as DEFAULT_REDACTION
from processes.report import ProcessExecutionReport, ReportContent, TaskReportEntry

#: Columns: what a mail may have without being wrapped by the reader's client (RFC 5322, 2.1.1).
WIDTH = 78

#: Characters of a process's name in a subject: with what stands around it, in any language, less than the 255 that
#: Outlook keeps, so that the date at the end stays.
SUBJECT_NAME_CHARS_MAX = 200

#: Parts of a failure's bytes that each of its texts may take; the traceback gets what the others leave, that at least.
_LOCALS_SHARE = 0.2
_OTHER_SHARE = 0.05
_TRACEBACK_SHARE = 0.3

#: Bytes of a text as part of those it has when its lines are moved in and wrapped.
_UNWRAPPED = 0.85

#: Bytes kept for the lines that tell what is not shown, and the headings of sections.
_REMARKS_BYTES = 2_000

#: Columns of a label in a list of facts; a longer one stands in a line of its own.
_LABEL_WIDTH = 20

# What cannot stand in a header: anything that breaks a line or is not to be seen, and what has no UTF-8.
_UNSAFE_IN_SUBJECT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+")


def subject_of(report: ProcessExecutionReport, *, language: str, errors_only: bool, day: date) -> str:
    """A subject for a mail with the report: one line, safe as a header whatever the process is called."""
    words = outline.words_of(language)
    base = words["lang_report_email_subject_errors" if errors_only else "lang_report_email_subject"]
    name = outline.name_of(report)
    if len(name) > SUBJECT_NAME_CHARS_MAX:
        name = f"{name[: SUBJECT_NAME_CHARS_MAX - 1]}…"
    name = _UNSAFE_IN_SUBJECT.sub(" ", name).replace("=?", "= ?").strip()  # "=?...?=" would be decoded: RFC 2047.
    return f"{base} {name} | {day:%Y%m%d}" if name else f"{base} | {day:%Y%m%d}"


def render_text(
    report: ProcessExecutionReport,
    *,
    language: str,
    content: ReportContent,
    errors_only: bool,
    generated_at: datetime,
) -> str:
    """
    The report as text of at most RENDERED_MAX bytes in lines of at most WIDTH characters, whatever it holds.

    Args:
        report: What happened.
        language: One of outline.LANGUAGES.
        content: What is told of each failure.
        errors_only: Tell of failures only; the counts are still those of the whole report.
        generated_at: The present instant, in the time zone that all instants are shown in.
    """
    return _Text(language, content, generated_at).render(report, errors_only)


class _Text:
    """One text in the making."""

    def __init__(self, language: str, content: ReportContent, generated_at: datetime) -> None:
        self._words: Words = outline.words_of(language)
        self._content = content
        self._generated_at = generated_at
        self._redaction = DEFAULT_REDACTION

    def render(self, report: ProcessExecutionReport, errors_only: bool) -> str:
        self._redaction = report.redaction
        told = outline.outline_of(report, self._words, errors_only=errors_only, generated_at=self._generated_at)
        when = outline.moment(self._generated_at, self._generated_at)
        top = self._top(told)
        end = self._words["lang_generated"].replace("{when}", when)
        room = outline.RENDERED_MAX - outline.size_of(top) - outline.size_of(end) - _REMARKS_BYTES
        kinds = outline.fit(told, room, self._in_full, self._in_short)
        success_label, error_label, skipped_label = (label for label, _ in told.counts)
        sections = [
            self._section(error_label, len(told.failures), kinds[0]),
            self._section(skipped_label, len(told.skipped), kinds[1]),
            self._section(success_label, len(told.successes), kinds[2]),
        ]
        if errors_only and not told.failures:
            sections.append(self._words["lang_nothing_failed"])
        return "\n\n".join([top, *filter(None, sections), end]) + "\n"

    def _top(self, told: Outline) -> str:
        title = _wrapped(outline.labelled(told.header, told.name, self._words) if told.name else told.header)
        counts = [(label, str(number)) for label, number in told.counts]
        blocks = [_underlined(title, "="), _table(told.facts + counts)]
        if told.warnings:
            blocks.append(self._warnings(told))
        return "\n\n".join(blocks)

    def _warnings(self, told: Outline) -> str:
        points = [_wrapped(line, "- ", "  ") for line in told.warnings]
        return "\n".join([_underlined(self._words["lang_warnings_title"], "-"), *points])

    def _section(self, label: str, number: int, shown: Fitted) -> str:
        if not number:
            return ""
        blocks = [_underlined(f"{label} ({number})", "-"), *shown.in_full]
        lines = list(shown.in_short)
        if shown.in_full and shown.in_short:
            blocks.append(self._words["lang_in_short"])
        if shown.left_out:
            lines.append(_wrapped(outline.not_shown(shown.left_out, self._words)))
        if not shown.in_full:  # Right under the heading.
            return "\n".join([*blocks, *lines])
        return "\n\n".join([*blocks, *(["\n".join(lines)] if lines else [])])

    def _in_full(self, entry: TaskReportEntry, room: int) -> str:
        other_room = room * _OTHER_SHARE
        facts = outline.facts_of(entry, self._words, self._generated_at, self._redaction)
        table = _table([(label, self._fitted(value, other_room)) for label, value in facts], WIDTH - 2)
        blocks = [
            self._head(entry, other_room),
            textwrap.indent(table, "  "),
            self._part("lang_attempts_label", outline.attempts_of(entry, self._words), other_room),
        ]
        known = self._locals(entry.error, room * _LOCALS_SHARE)
        left = _UNWRAPPED * (room - outline.size_of("".join(blocks) + known))
        blocks += [self._traceback(entry.error, max(left, room * _TRACEBACK_SHARE)), known]
        return "\n\n".join(filter(None, blocks))

    def _head(self, entry: TaskReportEntry, room: float) -> str:
        name = _wrapped(f"* {outline.in_line(entry.name)} [{outline.badge_of(entry.status, self._words)}]", "", "  ")
        if entry.error is None:
            return name
        return f"{name}\n{_indented(self._fitted(outline.exception_of(entry.error, self._words), room), 2)}"

    def _traceback(self, error: ErrorData | None, room: float) -> str:
        if error is None or not self._content.show_traceback:
            return ""
        return self._part("lang_traceback_title", outline.traceback_of(error), room)

    def _locals(self, error: ErrorData | None, room: float) -> str:
        if error is None or not self._content.show_traced_vars:
            return ""
        known = outline.locals_of(error, self._words)
        return self._part("lang_traced_vars_title", known, room, outline.blurb_of(error, self._words))

    def _part(self, title: str, text: str, room: float, blurb: str = "") -> str:
        """A block of text, indented under its title or the sentence that stands for it; nothing where there is none."""
        if not text:
            return ""
        head = _wrapped(blurb or outline.labelled(self._words[title], "", self._words).rstrip(), "  ", "  ")
        return f"{head}\n{_indented(self._fitted(text, room), 4)}"

    def _in_short(self, entry: TaskReportEntry) -> str:
        gist = outline.gist_of(entry, self._words)
        name = outline.in_line(entry.name)
        return _wrapped(outline.labelled(name, gist, self._words) if gist else name, "- ", "  ")

    def _fitted(self, text: str, room: float) -> str:
        return outline.fitted(text, int(room), self._words, outline.size_of)


def _wrapped(text: str, first: str = "", later: str = "") -> str:
    """Prose in lines of WIDTH at most."""
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _indented(text: str, columns: int, width: int = WIDTH) -> str:
    """Lines as they are, each moved in; what is too long goes on in the next line, as deep as it began."""
    return "\n".join(_moved_in(line, " " * columns, width) for line in text.expandtabs(4).split("\n"))


def _moved_in(line: str, margin: str, width: int) -> str:
    depth = min(len(line) - len(line.lstrip(" ")), width // 2)
    return textwrap.fill(
        line.rstrip(),
        width,
        initial_indent=margin,
        subsequent_indent=margin + " " * depth,
        replace_whitespace=False,
        break_on_hyphens=False,
    )


def _table(rows: list[tuple[str, str]], width: int = WIDTH) -> str:
    """Labels to the left, texts to the right of them."""
    lines = []
    for label, text in rows:
        value = _indented(text, _LABEL_WIDTH, width)
        fits = len(label) < _LABEL_WIDTH
        lines.append(f"{label:{_LABEL_WIDTH}}{value[_LABEL_WIDTH:]}" if fits else f"{label}\n{value}")
    return "\n".join(lines)


def _underlined(title: str, line: str) -> str:
    return f"{title}\n{line * min(WIDTH, max(map(len, title.split(chr(10)))))}"
