"""
A report as an HTML page that mail clients show. Pure, and runs in the parent.

Mail clients are no browsers: some drop `<style>`, most know no CSS variables, Outlook lays out by tables only. So each
element carries its colours as plain values, and the variables, which also bring the dark colours, come on top of them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from processes.comms import outline
from processes.comms.outline import Fitted, Outline, Words
from processes.error_data import ErrorData
from processes.events import TaskStatus
from processes.report import ProcessExecutionReport, ReportContent, TaskReportEntry

PALETTES = ("catppuccin", "neobones", "neutral", "slate")

#: Parts of a failure's bytes that each of its texts may take; the traceback gets what the others leave, that at least.
_EXCEPTION_SHARE = 0.1
_FACT_SHARE = 0.05
_ATTEMPTS_SHARE = 0.1
_LOCALS_SHARE = 0.2
_TRACEBACK_SHARE = 0.3

#: Bytes of a failure's name and badge, and of markup around its texts.
_NAME_BYTES = 1_500

#: Bytes kept for the lines that tell what is not shown, and the headings of sections.
_REMARKS_BYTES = 3_000

_PIECE = re.compile(r"<!-- piece: (\w+) -->\n")
_VARIABLE = re.compile(r"--([a-z-]+): (#[0-9a-f]{6});")
_STYLE_ATTRIBUTE = re.compile(r'style="[^"]*"')
_VAR = re.compile(r"var\(--([a-z-]+)\)")
_WORD = re.compile(r"\{\{(lang_\w+)\}\}")
_SLOT = re.compile(r"\{\{\{(\w+)\}\}\}|\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True)
class HTMLEmailStyle:
    """
    How a mail looks.

    Raises:
        ValueError: No such palette or language.
    """

    __module__ = "processes"

    #: Colours: one of "catppuccin", "neobones", "neutral", "slate".
    palette: str = "neutral"
    #: Of labels and subject: one of "de", "en", "es", "fr", "it", "pt".
    language: str = "en"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        _require_one_of("palette", self.palette, PALETTES)
        _require_one_of("language", self.language, outline.LANGUAGES)


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {sorted(known)}, got {value!r}")


def render_html(
    report: ProcessExecutionReport,
    *,
    style: HTMLEmailStyle,
    content: ReportContent,
    errors_only: bool,
    generated_at: datetime,
) -> str:
    """
    The report as a page of at most RENDERED_MAX bytes, whatever it holds.

    Args:
        report: What happened.
        style: Colours and language.
        content: What is told of each failure.
        errors_only: Tell of failures only; the counts are still those of the whole report.
        generated_at: The present instant, in the time zone that all instants are shown in.
    """
    return _Page(style, content, generated_at).render(report, errors_only)


class _Page:
    """One page in the making."""

    def __init__(self, style: HTMLEmailStyle, content: ReportContent, generated_at: datetime) -> None:
        self._style = style
        self._words: Words = outline.words_of(style.language)
        self._pieces = _pieces(style.palette, style.language)
        self._content = content
        self._generated_at = generated_at

    def render(self, report: ProcessExecutionReport, errors_only: bool) -> str:
        told = outline.outline_of(report, self._words, errors_only=errors_only, generated_at=self._generated_at)
        top = self._warnings(told)
        taken = outline.size_of(self._frame(told, top)) + _REMARKS_BYTES
        failed, skipped, succeeded = outline.fit(told, outline.RENDERED_MAX - taken, self._in_full, self._in_short)
        success_label, error_label, skipped_label = (label for label, _ in told.counts)
        sections = [
            top,
            self._section(error_label, len(told.failures), failed),
            self._section(skipped_label, len(told.skipped), skipped),
            self._section(success_label, len(told.successes), succeeded),
        ]
        if errors_only and not told.failures:
            sections.append(
                self._fill("section", label=error_label, number="0", lines=self._remark("lang_nothing_failed"))
            )
        return self._frame(told, "".join(sections))

    def _fill(self, piece: str, **values: str) -> str:
        """
        A piece with its slots filled: `{{x}}` escaped, `{{{x}}}` as it is, being HTML.

        One pass over the piece alone: what looks like a slot in a value stays as it is.
        """
        return _SLOT.sub(lambda slot: values[slot[1]] if slot[1] else html.escape(values[slot[2]]), self._pieces[piece])

    def _frame(self, told: Outline, body: str) -> str:
        title = self._words["lang_report_title_prefix"]
        when = outline.moment(self._generated_at, self._generated_at)
        return self._fill(
            "page",
            language=self._style.language,
            title=outline.labelled(title, told.name, self._words) if told.name else title,
            palette=_palette(self._style.palette),
            headline=told.headline(self._words),
            header=told.header,
            name=self._fill("name", name=told.name) if told.name else "",
            run=self._run(told.facts),
            counts=self._pieces["gap"].join(
                # Red is kept for what is wrong: a count of none is grey.
                self._fill("count", label=label, number=str(number), **self._colours(colour if number else "grey"))
                for (label, number), colour in zip(told.counts, ("green", "red", "grey"), strict=True)
            ),
            body=body,
            generated=self._words["lang_generated"].replace("{when}", when),
        )

    def _run(self, facts: list[tuple[str, str]]) -> str:
        line = " · ".join(outline.labelled(label, value, self._words) for label, value in facts)
        return self._fill("run", facts=line) if line else ""

    def _warnings(self, told: Outline) -> str:
        lines = "".join(self._fill("text", text=line) for line in told.warnings)
        return self._fill("warnings", lines=lines) if lines else ""

    def _section(self, label: str, number: int, shown: Fitted) -> str:
        if not number:
            return ""
        lines = list(shown.in_full)
        if shown.in_full and shown.in_short:
            lines.append(self._remark("lang_in_short"))
        lines += shown.in_short
        if shown.left_out:
            lines.append(self._fill("remark", text=outline.not_shown(shown.left_out, self._words)))
        return self._fill("section", label=label, number=str(number), lines="\n".join(lines))

    def _remark(self, word: str) -> str:
        return self._fill("remark", text=self._words[word])

    def _in_full(self, entry: TaskReportEntry, room: int) -> str:
        exception = self._exception(entry.error, room)
        facts = self._facts(entry, room)
        attempts = self._part("lang_attempts_label", outline.attempts_of(entry, self._words), room * _ATTEMPTS_SHARE)
        known = self._locals(entry.error, room)
        left = room - outline.size_of(exception + facts + attempts + known) - _NAME_BYTES
        return self._fill(
            "failure",
            name=outline.in_line(entry.name),
            badge=self._badge(entry.status),
            exception=exception,
            facts=facts,
            parts=attempts + self._traceback(entry.error, max(left, room * _TRACEBACK_SHARE)) + known,
        )

    def _exception(self, error: ErrorData | None, room: int) -> str:
        if error is None:
            return ""
        return self._fill(
            "exception", text=self._escaped(outline.exception_of(error, self._words), room * _EXCEPTION_SHARE)
        )

    def _facts(self, entry: TaskReportEntry, room: int) -> str:
        return "".join(
            self._fill("fact", label=label, value=self._escaped(value, room * _FACT_SHARE))
            for label, value in outline.facts_of(entry, self._words, self._generated_at)
        )

    def _traceback(self, error: ErrorData | None, room: float) -> str:
        if error is None or not self._content.show_traceback:
            return ""
        return self._part("lang_traceback_title", outline.traceback_of(error), room)

    def _locals(self, error: ErrorData | None, room: int) -> str:
        if error is None or not self._content.show_traced_vars:
            return ""
        blurb = outline.blurb_of(error, self._words)
        return self._part("lang_traced_vars_title", outline.locals_of(error, self._words), room * _LOCALS_SHARE, blurb)

    def _part(self, title: str, text: str, room: float, blurb: str = "") -> str:
        """A block of text as it is, under its title; nothing where there is none."""
        if not text:
            return ""
        return self._fill(
            "part",
            title=self._words[title],
            blurb=self._fill("remark", text=blurb) if blurb else "",
            text=self._escaped(text, room),
        )

    def _in_short(self, entry: TaskReportEntry) -> str:
        facts = outline.facts_of(entry, self._words, self._generated_at)
        return self._fill(
            "line",
            open=" open" if entry.status is TaskStatus.ERRORED else "",
            name=outline.in_line(entry.name),
            badge=self._badge(entry.status),
            gist=outline.gist_of(entry, self._words),
            facts=" · ".join(self._fill("told", label=label, value=outline.in_line(value)) for label, value in facts),
        )

    def _badge(self, status: TaskStatus) -> str:
        kind, colour = _BADGES[status]
        return self._fill("badge", kind=kind, label=outline.badge_of(status, self._words), **self._colours(colour))

    def _colours(self, colour: str) -> dict[str, str]:
        """Class and style of a field in green, red or grey."""
        known = _variables(self._style.palette)
        paint = f"background-color:{known[f'{colour}-bg']};color:{known[f'{colour}-text']}"
        return {"colour": colour, "paint": paint}

    def _escaped(self, text: str, room: float) -> str:
        """The text as HTML, cut to so many bytes or a little more."""
        return html.escape(outline.fitted(text, int(room), self._words, _html_size))


#: {status: (class that says it, class of its colours)}.
_BADGES = {
    TaskStatus.SUCCESS: ("badge-success", "green"),
    TaskStatus.ERRORED: ("badge-errored", "red"),
    TaskStatus.SKIPPED: ("badge-skipped", "grey"),
    TaskStatus.PENDING: ("badge-skipped", "grey"),
}


def _html_size(text: str) -> int:
    return outline.size_of(html.escape(text))


@cache
def _palette(name: str) -> str:
    return outline.theme_file(f"palettes/{name}.css").strip()


@cache
def _variables(palette: str) -> Mapping[str, str]:
    """The colours of a palette for light mode: those of its first block."""
    return dict(_VARIABLE.findall(_palette(palette).partition("}")[0]))


@cache
def _pieces(palette: str, language: str) -> Mapping[str, str]:
    """
    The pieces of styles/report.html, by name, with colours and words in place.

    A `style` attribute gets plain colours; a rule of `<style>` keeps its variables, with the colour to fall back to.
    """
    known, words = _variables(palette), outline.words_of(language)

    def plain(attribute: re.Match[str]) -> str:
        return _VAR.sub(lambda name: known[name[1]], attribute[0])

    text = "\n".join(line.strip() for line in outline.theme_file("styles/report.html").splitlines()) + "\n"
    text = _STYLE_ATTRIBUTE.sub(plain, text)
    text = _VAR.sub(lambda name: f"var(--{name[1]}, {known[name[1]]})", text)
    text = _WORD.sub(lambda word: html.escape(words[word[1]]), text)
    _, *parts = _PIECE.split(text)
    return {name: piece.strip() for name, piece in zip(parts[::2], parts[1::2], strict=True)}
