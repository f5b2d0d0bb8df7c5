"""
What a report that is sent tells, in which words and within which bounds: the same for plain text and for HTML.

Pure, and runs in the parent. A report may hold anything: tens of thousands of tasks, tracebacks of many megabytes,
names and values made to break a page. So a text is cut before anything else looks at it, what could act is shown as
an escape, and of entries that do not fit the number is told.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from itertools import islice

from processes.error_data import ErrorData
from processes.events import TaskStatus
from processes.failure import LOCAL_CHARS_MAX, LOCALS_MAX, TEXT_CHARS_MAX, bounded_repr
from processes.redaction import DEFAULT as DEFAULT_REDACTION
from processes.redaction import Redaction
from processes.report import ProcessExecutionReport, TaskReportEntry

#: {key of the language files: text}.
Words = Mapping[str, str]

LANGUAGES = ("de", "en", "es", "fr", "it", "pt")

#: Bytes of UTF-8 that a rendered report stays under: mail clients cut what is longer (Gmail at 102 kB).
RENDERED_MAX = 98_000

#: Characters of a name, or of anything else that stands within a line.
NAME_CHARS_MAX = 200

_WARNING_CHARS_MAX = 400

#: Of names, attempts and warnings in a list, that many are shown and the others counted.
LISTED_MAX = 20

#: Bytes for one failure told in full: at least, so that its traceback still says something, and at most.
FAILURE_BYTES = (6_000, 30_000)

#: Bytes that must be left before one more line is tried.
_LINE_BYTES = 300

#: Parts of the room that is left: for failures in full when other entries follow; for each kind of line after them.
_IN_FULL_SHARE = 0.65
_LINES_SHARE = 0.5

#: What would act instead of being seen: control characters but tab and newline, marks that turn the direction of
#: writing, separators of lines and paragraphs; and what has no UTF-8 or may not stand in HTML.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]"
)

_KIB = 1024


@cache
def words_of(language: str) -> Words:
    """Every text of one of the LANGUAGES."""
    words: Words = json.loads(theme_file(f"languages/{language}.json"))
    return words


def theme_file(path: str) -> str:
    """Text of a file of the package's themes."""
    return (resources.files("processes.comms") / "themes" / path).read_text(encoding="utf-8")


def name_of(report: ProcessExecutionReport) -> str:
    """What the process is called; nothing where it has no name. Process takes one of any kind."""
    name: object = report.process_name
    if name is None:
        return ""
    return name if isinstance(name, str) else bounded_repr(name)


# ---- text that can be shown ------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text with whatever would not be seen as its escape in Python; lines and tabs stay."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n"))


def in_line(text: str, limit: int = NAME_CHARS_MAX) -> str:
    """A text as part of a line: cut, lines and tabs as escapes too."""
    short = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return clean(short).replace("\n", "\\n").replace("\t", "\\t")


def cut(text: str, limit: int, words: Words) -> str:
    """The text, or its first third and its end, around a line that says how much is missing."""
    if len(text) <= limit:
        return text
    head = limit // 3
    tail = limit - head
    left_out = words["lang_characters_left_out"].replace("{count}", str(len(text) - limit))
    return f"{text[:head]}\n[… {left_out} …]\n{text[len(text) - tail :]}"


def fitted(text: str, room: int, words: Words, measure: Callable[[str], int]) -> str:
    """The text cleaned, and cut until `measure` of it is at most `room`; the line on what is missing comes on top."""
    limit = room
    while True:
        shown = clean(cut(text, limit, words))
        size = measure(shown)
        # A cut text is over by that line at least, which is shorter than this.
        if size <= room + NAME_CHARS_MAX or not limit:
            return shown
        limit = limit * room // size


def size_of(text: str) -> int:
    """Bytes of a cleaned text."""
    return len(text.encode())


def listed(texts: Sequence[str], words: Words, separator: str = ", ") -> str:
    """The first LISTED_MAX of the texts, each a part of a line, and how many are not shown."""
    shown = [in_line(text) for text in islice(texts, LISTED_MAX)]
    return separator.join(shown + ([not_shown(len(texts) - LISTED_MAX, words)] if len(texts) > LISTED_MAX else []))


def not_shown(count: int, words: Words) -> str:
    """The line that says how many more there are."""
    return words["lang_not_shown"].replace("{count}", str(count))


def labelled(label: str, text: str, words: Words) -> str:
    """A label and what it is for, in one line."""
    return f"{label}{words['lang_colon']}{text}"


# ---- figures ---------------------------------------------------------------------------------------------------------


def duration(seconds: float, words: Words) -> str:
    """A time for people: "4 ms", "0.25 s", "3 min 12 s", "2 h 05 min"."""
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s".replace(".", words["lang_decimal_mark"])
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".", words["lang_decimal_mark"])
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def memory(size: int, words: Words) -> str:
    """A number of bytes for people: "512 B", "88.1 MiB"."""
    if size < _KIB:
        return f"{size} B"
    amount, unit = size / _KIB, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount >= _KIB:
            amount, unit = amount / _KIB, larger
    return f"{amount:.1f} {unit}".replace(".", words["lang_decimal_mark"])


def moment(at: datetime, like: datetime) -> str:
    """An instant in the time zone of `like`, to the second, with the zone's name: no reader can mistake it."""
    return format(at.astimezone(like.tzinfo or UTC), "%Y-%m-%d %H:%M:%S %Z")


# ---- what is told ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outline:
    """A report sorted into what is told in which place."""

    #: "Process Execution Report", or of failed tasks.
    header: str
    #: The process's name as part of a line; "" where it has none.
    name: str
    #: When the tasks began and how long it took, as far as it is known: (label, text).
    facts: list[tuple[str, str]]
    #: (label, number of entries): successes, errors, skipped. Of the whole report, also where only errors are told.
    counts: list[tuple[str, int]]
    #: The run's own troubles, a line each, and how many more there are.
    warnings: list[str]
    failures: list[TaskReportEntry]
    #: Those that never ran, then those that succeeded; both empty where only errors are told.
    skipped: list[TaskReportEntry]
    successes: list[TaskReportEntry]

    def headline(self, words: Words) -> str:
        """What a mail client shows of a message before it is opened: the counts, worst first, and what failed."""
        success, errored, skipped = (labelled(label, str(count), words) for label, count in self.counts)
        told = [errored, skipped, success, *(in_line(entry.name, 60) for entry in self.failures[:5])]
        return " · ".join(told)


def outline_of(report: ProcessExecutionReport, words: Words, *, errors_only: bool, generated_at: datetime) -> Outline:
    """What is told of a report."""
    by_status: dict[TaskStatus, list[TaskReportEntry]] = {status: [] for status in TaskStatus}
    for entry in report.entries.values():
        by_status[entry.status].append(entry)
    successes, failures = by_status[TaskStatus.SUCCESS], by_status[TaskStatus.ERRORED]
    warnings = [
        in_line(text, _WARNING_CHARS_MAX)
        for text in islice(report.warnings, LISTED_MAX)
        if not (errors_only and _names_any(text, successes))
    ]
    if len(report.warnings) > len(warnings):
        warnings.append(not_shown(len(report.warnings) - len(warnings), words))
    return Outline(
        header=words["lang_report_header_errors_only" if errors_only else "lang_report_header"],
        name=in_line(name_of(report).strip()),
        facts=_run_facts(report, words, generated_at),
        counts=[
            (words["lang_report_success_label"], len(successes)),
            (words["lang_report_error_label"], len(failures)),
            (words["lang_report_skipped_label"], len(by_status[TaskStatus.SKIPPED])),
        ],
        warnings=warnings,
        failures=failures,
        skipped=[] if errors_only else by_status[TaskStatus.SKIPPED] + by_status[TaskStatus.PENDING],
        successes=[] if errors_only else successes,
    )


def _names_any(text: str, entries: list[TaskReportEntry]) -> bool:
    """Whether a warning, as far as it is shown, names a task: a report of errors only names none that succeeded."""
    shown = text[:_WARNING_CHARS_MAX]
    return any(entry.name in shown for entry in entries)


def _run_facts(report: ProcessExecutionReport, words: Words, generated_at: datetime) -> list[tuple[str, str]]:
    started = min((entry.started_at for entry in report.entries.values() if entry.started_at), default=None)
    ended = max((entry.ended_at for entry in report.entries.values() if entry.ended_at), default=None)
    facts = []
    if started is not None:
        facts.append((words["lang_started_label"], moment(started, generated_at)))
    if started is not None and ended is not None:
        facts.append((words["lang_took_label"], duration((ended - started).total_seconds(), words)))
    return facts


def badge_of(status: TaskStatus, words: Words) -> str:
    """The status in the reader's language."""
    match status:
        case TaskStatus.SUCCESS:
            return words["lang_status_success"]
        case TaskStatus.ERRORED:
            return words["lang_status_errored"]
        case TaskStatus.SKIPPED:
            return words["lang_status_skipped"]
        case TaskStatus.PENDING:
            return words["lang_status_pending"]


def exception_of(error: ErrorData, words: Words) -> str:
    """Type and text of what failed, as the last line of a traceback has them."""
    return ": ".join(
        part for part in (in_line(error.exception_type), cut(error.exception, TEXT_CHARS_MAX, words)) if part
    )


def traceback_of(error: ErrorData) -> str:
    """The traceback; "" where it says no more than the exception, as that of a task that was killed."""
    text = error.traceback_str.strip("\n")
    return "" if text == f"{error.exception_type}: {error.exception}" else text


def facts_of(
    entry: TaskReportEntry, words: Words, generated_at: datetime, redaction: Redaction = DEFAULT_REDACTION
) -> list[tuple[str, str]]:
    """What is known of a task besides its failure: (label, text)."""
    facts = [(words["lang_function_label"], in_line(entry.function))]
    if entry.args or entry.kwargs:
        facts.append((words["lang_arguments_label"], _arguments(entry, redaction)))
    if entry.why:
        facts.append((words["lang_why_label"], why_of(entry, words)))
    if entry.started_at is not None:
        facts.append((words["lang_started_label"], moment(entry.started_at, generated_at)))
    if entry.attempts:
        facts.append((words["lang_took_label"], duration(entry.elapsed_seconds, words)))
        facts.append((words["lang_attempts_label"], str(entry.attempts)))
    if entry.usage is not None and entry.usage.peak_memory is not None:
        facts.append((words["lang_peak_memory_label"], memory(entry.usage.peak_memory, words)))
    if entry.error is not None and entry.error.downstream_impact:
        facts.append((words["lang_downstream_title"], listed(entry.error.downstream_impact, words)))
    return facts


def why_of(entry: TaskReportEntry, words: Words) -> str:
    """Why a task never ran, in the reader's language if it is one of the usual reasons."""
    for key, pattern in _usual_reasons().items():
        found = pattern.fullmatch(entry.why)
        if found:
            return words[key].replace("{what}", found["what"]) if pattern.groups else words[key]
    return entry.why


@cache
def _usual_reasons() -> Mapping[str, re.Pattern[str]]:
    """{key: what matches it}. An entry has its reason as an English sentence, and those of `en.json` are these."""
    known = words_of("en")
    reasons = ("lang_why_dependency", "lang_why_fail_fast", "lang_why_deadline", "lang_why_interrupted")
    return {
        key: re.compile(re.escape(known[key]).replace(re.escape("{what}"), "(?P<what>.*)"), re.DOTALL)
        for key in reasons
    }


def gist_of(entry: TaskReportEntry, words: Words) -> str:
    """The one thing worth knowing of a task in a line: why it failed, why it never ran, what it took."""
    if entry.error is not None:
        return in_line(exception_of(entry.error, words))
    if not entry.attempts:
        return in_line(why_of(entry, words))
    told = [duration(entry.elapsed_seconds, words)]
    if entry.attempts > 1:
        told.append(labelled(words["lang_attempts_label"], str(entry.attempts), words))
    if entry.usage is not None and entry.usage.peak_memory is not None:
        told.append(memory(entry.usage.peak_memory, words))
    return " · ".join(told)


def attempts_of(entry: TaskReportEntry, words: Words) -> str:
    """A line for each attempt of a task that was tried more than once; "" for others."""
    if len(entry.attempt_log) < 2:
        return ""
    lines = [
        f"{made.attempt}. {': '.join(part for part in (made.outcome, made.why) if part)}"
        f" ({duration(made.seconds, words)})"
        for made in entry.attempt_log[:LISTED_MAX]
    ]
    if len(entry.attempt_log) > LISTED_MAX:
        lines.append(not_shown(len(entry.attempt_log) - LISTED_MAX, words))
    return "\n".join(in_line(line) for line in lines)


def blurb_of(error: ErrorData, words: Words) -> str:
    """The sentence that says where the locals were."""
    return words["lang_traced_vars_blurb"].replace("{location}", in_line(error.traced_vars_location))


def locals_of(error: ErrorData, words: Words) -> str:
    """The locals of the chosen frame, `name = repr` in a line each."""
    known = islice(error.traced_vars.items(), LOCALS_MAX + 1)  # One on top for what says how many more there are.
    return "\n".join(f"{in_line(name)} = {cut(value, LOCAL_CHARS_MAX, words)}" for name, value in known)


def _arguments(entry: TaskReportEntry, redaction: Redaction) -> str:
    """The arguments as they stand in a call, without secrets; only as many are looked at as are shown."""
    positional = [redaction.text(bounded_repr(value)) for value in islice(entry.args, LISTED_MAX)]
    named = [
        f"{in_line(str(key))}={redaction.value(str(key), bounded_repr(value))}"
        for key, value in islice(entry.kwargs.items(), LISTED_MAX)
    ]
    more = len(entry.args) + len(entry.kwargs) > len(positional) + len(named)
    return ", ".join(positional + named + (["…"] if more else []))


# ---- what fits -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fitted:
    """Entries of one kind, rendered, as far as there was room."""

    in_full: list[str]
    in_short: list[str]
    #: How many more there are.
    left_out: int


def fit(
    outline: Outline,
    room: int,
    in_full: Callable[[TaskReportEntry, int], str],
    in_short: Callable[[TaskReportEntry], str],
) -> tuple[Fitted, Fitted, Fitted]:
    """
    Render failures, skipped and successes into `room` bytes: failures first and in full, the rest in a line each.

    Args:
        outline: The entries.
        room: Bytes there are.
        in_full: Renders a failure into a number of bytes, more or less.
        in_short: Renders an entry into a line.
    """
    others = bool(outline.skipped or outline.successes)
    least, most = FAILURE_BYTES

    def failure(entry: TaskReportEntry, share: int) -> str:
        return in_full(entry, min(max(share, least), most))

    def line(entry: TaskReportEntry, share: int) -> str:  # noqa: ARG001  a line takes what it takes
        return in_short(entry)

    is_enough = len(outline.failures) * least <= room
    told, used = _pack(
        outline.failures, int(room * (1 if is_enough and not others else _IN_FULL_SHARE)), least, failure
    )
    room -= used
    kinds = []
    remaining = [outline.failures[len(told) :], outline.skipped, outline.successes]
    for number, entries in enumerate(remaining, 1):
        is_last = not any(remaining[number:])
        lines, used = _pack(entries, room if is_last else int(room * _LINES_SHARE), _LINE_BYTES, line)
        room -= used
        kinds.append(Fitted([], lines, len(entries) - len(lines)))
    failed, skipped, succeeded = kinds
    return Fitted(told, failed.in_short, failed.left_out), skipped, succeeded


def _pack(
    entries: Sequence[TaskReportEntry], room: int, least: int, render: Callable[[TaskReportEntry, int], str]
) -> tuple[list[str], int]:
    """Render entries in order while they fit, each told its share of what is left; and the bytes they take."""
    packed: list[str] = []
    left = room
    for entry in entries:
        if left < least:
            break
        piece = render(entry, left // (len(entries) - len(packed)))
        size = size_of(piece) + 1  # The newline after it.
        if size > left:
            break
        packed.append(piece)
        left -= size
    return packed, room - left
