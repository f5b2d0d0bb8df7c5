"""A report as HTML: what it tells, how small and how safe it stays, and that it can be read wherever mail is read."""

import html
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from processes.comms import outline
from processes.comms.html import PALETTES, HTMLEmailStyle, render_html
from processes.comms.outline import LANGUAGES, RENDERED_MAX, words_of
from processes.events import TaskStatus
from processes.record import AttemptRecord
from processes.report import ProcessExecutionReport, ReportContent, TaskReportEntry
from support.reports import GENERATED, HOSTILE, TRACEBACK, Unprintable, error, failed, report, skipped, succeeded

#: What Gmail shows before it cuts a message off; no client is known to show less.
CUT_OFF = 100_000

#: WCAG 2.2, 1.4.3: text against its background.
CONTRAST_MIN = 4.5

#: Fixed by 7.0.4.
PALETTE_VARIABLES = {
    "bg-page",
    "bg-card",
    "text-primary",
    "text-muted",
    "accent",
    "alert-bg",
    "alert-text",
    "border",
    "code-bg",
}
PINNED = [
    ("neutral", "--accent: #2563eb"),
    ("catppuccin", "--accent: #8839ef"),
    ("neobones", "--bg-page: #f3efec"),
    ("slate", "--bg-page: #1e293b"),
]

VOID = {"meta", "br", "hr", "img", "link", "input"}


def render(
    made: ProcessExecutionReport | None = None,
    palette: str = "neutral",
    language: str = "en",
    *,
    errors_only: bool = False,
    **content: bool,
) -> str:
    """The page of a report."""
    return render_html(
        report() if made is None else made,
        style=HTMLEmailStyle(palette, language),
        content=ReportContent(**content),
        errors_only=errors_only,
        generated_at=GENERATED,
    )


class Element:
    """An element of a page, as far as the tests look at it."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: "Element | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.texts: list[str] = []
        self.children: list[Element] = []

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        """All text inside, blanks as they are."""
        return "".join(self.texts)

    def all(self, tag: str) -> "list[Element]":
        """Elements of that tag inside, in order."""
        found = [self] if self.tag == tag else []
        return found + [made for child in self.children for made in child.all(tag)]

    def one(self, tag: str) -> "Element":
        """The only element of that tag inside."""
        (found,) = self.all(tag)
        return found


class Page(HTMLParser):
    """A page taken apart; one whose elements do not close in order fails."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.open = Element("", {}, None)
        #: (text, the element right around it).
        self.pieces: list[tuple[str, Element]] = []
        self.comments: list[str] = []
        self.feed(text)
        self.close()
        assert self.open is self.root, f"never closed: {self.open.tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        made = Element(tag, dict(attrs), self.open)
        self.open.children.append(made)
        if tag not in VOID:
            self.open = made

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.tag, f"</{tag}> closes <{self.open.tag}>"
        assert self.open.parent is not None
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        self.pieces.append((data, self.open))
        inside: Element | None = self.open
        while inside is not None:
            inside.texts.append(data)
            inside = inside.parent

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def tasks_of(text: str) -> list[Element]:
    """The elements that tell of a task each."""
    return Page(text).root.all("details")


def counts_of(text: str) -> list[str]:
    """The figures of the summary: successes, errors, skipped."""
    return re.findall(r">(\d+)<", text)[:3]


def summaries(text: str) -> list[str]:
    """Their first lines."""
    return [" ".join(task.one("summary").text.split()) for task in tasks_of(text)]


# ---- its style -------------------------------------------------------------------------------------------------------


def test_style_is_frozen_and_has_defaults() -> None:
    """By value, neutral and English."""
    assert (HTMLEmailStyle().palette, HTMLEmailStyle().language) == ("neutral", "en")
    assert HTMLEmailStyle("slate", "de") == HTMLEmailStyle(palette="slate", language="de")
    with pytest.raises(FrozenInstanceError):
        HTMLEmailStyle().palette = "slate"  # type: ignore[misc]
    assert not hasattr(HTMLEmailStyle(), "__dict__")


def test_style_has_its_files_in_the_package() -> None:
    """One page, a file a palette: of the installed package, which is the wheel where tox runs this."""
    themes = resources.files("processes.comms") / "themes"
    files = {f"{folder.name}/{file.name}" for folder in themes.iterdir() for file in folder.iterdir()}
    palettes = {f"palettes/{palette}.css" for palette in PALETTES}
    languages = {f"languages/{language}.json" for language in LANGUAGES}
    assert files == {"styles/report.html"} | palettes | languages


@pytest.mark.parametrize("value", ["Neutral", "", "neutral ", "x/../neutral"])
def test_style_refuses_a_palette_that_there_is_not(value: str) -> None:
    """Naming those that there are."""
    known = "['catppuccin', 'neobones', 'neutral', 'slate']"
    with pytest.raises(ValueError, match=re.escape(f"palette must be one of {known}, got {value!r}")):
        HTMLEmailStyle(palette=value)


@pytest.mark.parametrize("value", ["EN", "", "en-GB", "nl"])
def test_style_refuses_a_language_that_there_is_not(value: str) -> None:
    """Naming those that there are."""
    known = "['de', 'en', 'es', 'fr', 'it', 'pt']"
    with pytest.raises(ValueError, match=re.escape(f"language must be one of {known}, got {value!r}")):
        HTMLEmailStyle(language=value)


# ---- what it tells ---------------------------------------------------------------------------------------------------


def test_page_tells_name_times_and_counts() -> None:
    """What a person on call looks at first; times in the zone of the reader."""
    page = Page(render()).root
    assert page.one("title").text == "Process Report: nightly"
    assert page.one("h1").text == "nightly"
    assert "Started: 2026-01-02 04:04:05 CET · Duration: 3 min 20 s" in page.text
    assert "Report made at 2026-01-02 05:00:00 CET" in page.text
    assert counts_of(render()) == ["1", "1", "2"]


def test_page_of_a_report_without_a_name_has_no_heading_for_it() -> None:
    """Nor a colon with nothing after it."""
    page = Page(render(report(failed(), name=" "))).root
    assert page.all("h1") == []
    assert page.one("title").text == "Process Report"


def test_page_tells_all_of_a_failure() -> None:
    """Its exception with the type, its call, what it took, what it cost others."""
    (task,) = tasks_of(render(report(failed())))
    rows = {row.all("td")[0].text: row.all("td")[1].text for row in task.all("tr")}
    assert rows == {
        "Function": "load_table",
        "Arguments": "'flights', year=2026",
        "Started": "2026-01-02 04:04:07 CET",
        "Duration": "3 min 12 s",
        "Attempts": "2",
        "Peak memory": "1.5 GiB",
        "Downstream Impact": "publish, report",
    }
    assert "ValueError: no table 'flights'" in task.text
    attempts, traceback, known = (block.text for block in task.all("pre"))
    assert attempts.splitlines() == [
        "1. ConnectionError: refused (1 min 32 s)",
        "2. ValueError: no table 'flights' (1 min 40 s)",
    ]
    assert traceback == TRACEBACK.strip()
    assert known == "table = 'flights'\ntries = 3"
    assert "had these values at /srv/etl/load.py:44:" in task.text


def test_page_tells_the_rest_in_a_line_each() -> None:
    """Failures first; why a task never ran; what a success took."""
    made = report(succeeded(), succeeded("again", attempts=3), failed(), skipped())
    assert summaries(render(made)) == [
        "load Error",
        "publish Skipped it depends on 'load', which failed",
        "extract Success 1.25 s · 64.0 MiB",
        "again Success 1.25 s · Attempts: 3 · 64.0 MiB",
    ]
    opened = ["open" in task.attributes for task in tasks_of(render(made))]
    assert opened == [True, False, False, False]
    assert all(f"Function: {name}" in render(made).replace("<bdi>", "") for name in ("extract_table", "publish"))


def test_page_does_not_tell_results() -> None:
    """They may be large and are nobody's business; nor are they loaded for it."""
    assert "secret" not in render()


def test_page_leaves_out_what_is_not_wanted() -> None:
    """Traceback and locals, each by its own switch."""
    assert "Traceback" in render()
    assert "Traced Variables" in render()
    assert "Traceback" not in render(show_traceback=False)
    assert "Traced Variables" in render(show_traceback=False)
    assert "Traceback" in render(show_traced_vars=False)
    assert "Traced Variables" not in render(show_traced_vars=False)
    assert "/srv/etl" not in render(show_traceback=False, show_traced_vars=False)


def test_page_tells_an_exception_once_that_has_no_traceback() -> None:
    """A task that was killed: its traceback is the exception again."""
    killed = error(exception="killed", exception_type="Gone", traceback_str="Gone: killed\n", traced_vars={})
    (task,) = tasks_of(render(report(failed(error=killed))))
    assert task.text.count("Gone: killed") == 1
    assert "Traceback" not in task.text


def test_page_tells_a_failure_of_which_nothing_is_known() -> None:
    """Built by hand, without an error."""
    (task,) = tasks_of(render(report(failed(error=None, attempt_log=(), usage=None, started_at=None, ended_at=None))))
    assert "load_table" in task.text
    assert task.all("pre") == []


def test_page_tells_warnings_of_the_run() -> None:
    """The first ones, each cut, and how many more there are."""
    made = report(warnings=("disk <full>", "w" * 10**6, *(f"trouble {number}" for number in range(30))))
    text = Page(render(made)).root.text
    assert "Warnings of the Run" in text
    assert "disk <full>" in text
    assert "trouble 17" in text
    assert "trouble 18" not in text
    assert "Not shown here: 12 more" in text
    assert "Warnings" not in render()


def test_page_tells_badges_by_class() -> None:
    """One class a status."""
    badges = [(made.text, made.classes[:2]) for made in Page(render()).root.all("span") if "badge" in made.classes]
    assert badges == [
        ("Error", ["badge", "badge-errored"]),
        ("Skipped", ["badge", "badge-skipped"]),
        ("Skipped", ["badge", "badge-skipped"]),
        ("Success", ["badge", "badge-success"]),
    ]


def test_page_without_a_failure_has_nothing_red() -> None:
    """Seen from afar it is calm; a count of none is grey."""
    page = Page(render(report(succeeded(), skipped()))).root
    classes = [name for made in page.all("div") + page.all("span") for name in made.classes]
    assert "red" not in classes
    assert {"green", "grey"} <= set(classes)
    failing = Page(render(report(failed()))).root
    counts = [made.classes for made in failing.all("div") if made.classes in (["green"], ["red"], ["grey"])]
    assert counts[:3] == [["grey"], ["red"], ["grey"]]


def test_page_tells_a_task_that_never_ran_nor_was_skipped() -> None:
    """A report built by hand may hold one."""
    assert summaries(render(report(skipped(status=TaskStatus.PENDING, why="")))) == ["publish Not run"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_speaks_one_language(language: str) -> None:
    """The lang attribute, every label and every badge."""
    words = words_of(language)
    page = Page(render(report(succeeded(attempts=2), failed(), skipped(), warnings=("w",)), language=language)).root
    assert page.one("html").attributes["lang"] == language
    badges = [made.text for made in page.all("span") if "badge" in made.classes]
    assert badges == [words[f"lang_status_{status}"] for status in ("errored", "skipped", "success")]
    not_used = {"not_shown", "characters_left_out", "in_short", "nothing_failed", "status_pending", "decimal_mark"}
    not_used |= {"report_header_errors_only", "report_email_subject", "report_email_subject_errors"}
    not_used |= {"why_fail_fast", "why_deadline", "why_interrupted"}
    for key in words.keys() - {f"lang_{key}" for key in not_used}:
        text = words[key].replace("{location}", "/srv/etl/load.py:44").replace("{when}", "2026-01-02 05:00:00 CET")
        text = text.replace("{what}", "load")
        assert text in page.text, key
    assert f"1{words['lang_decimal_mark']}25 s" in page.text


# ---- only errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ok", "good", "fine", "success", "extract_table_ok"])
@pytest.mark.parametrize("palette", PALETTES)
def test_page_of_errors_names_no_success(name: str, palette: str) -> None:
    """Nowhere: not in CSS, a comment or a warning. Counts are those of the whole report."""
    warnings = (f"worker of '{name}' replaced", "disk full")
    text = render(report(succeeded(name), failed(), skipped(), warnings=warnings), palette, errors_only=True)
    assert name not in text
    assert summaries(text) == ["load Error"]
    assert counts_of(text) == ["1", "1", "1"]
    assert "Failed Tasks Report" in text
    assert "disk full" in text
    assert "Not shown here: 1 more" in text


def test_page_of_errors_says_that_there_are_none() -> None:
    """A person who gets it need not wonder what is missing."""
    text = render(report(succeeded()), errors_only=True)
    assert "No task failed." in text
    assert tasks_of(text) == []
    assert "No task failed." not in render(report(succeeded()))


# ---- hostile text ----------------------------------------------------------------------------------------------------


def everywhere(text: str) -> ProcessExecutionReport:
    """A report that holds a text in every place there is."""
    told: dict[str, Any] = {"function": text, "args": (text,), "kwargs": {text: text}}
    known = error(
        exception=text,
        exception_type=text,
        traceback_str=text,
        traced_vars={text: text},
        traced_vars_location=text,
        downstream_impact=[text],
    )
    log = (AttemptRecord(1, text, 1.0, text), AttemptRecord(2, text, 1.0, text))
    entries = {
        "1": failed(text, error=known, attempt_log=log, **told),
        "2": skipped(text, why=text, **told),
        "3": succeeded(text, **told),
    }
    return ProcessExecutionReport(entries, text, (text,))


@pytest.mark.parametrize(("typed", "shown"), HOSTILE, ids=[ascii(typed) for typed, _ in HOSTILE])
def test_page_shows_hostile_text_as_it_was_typed(typed: str, shown: str) -> None:
    """It never becomes markup, nor anything that acts; elements and attributes are those of a harmless report."""
    text = render(everywhere(typed))
    text.encode()
    page, harmless = Page(text), Page(render(everywhere("harmless")))
    assert [made.tag for made in page.root.all("")] == [made.tag for made in harmless.root.all("")]
    assert text.count("<") == render(everywhere("harmless")).count("<")
    assert [task.one("b").text for task in page.root.all("details")[:1]] == [shown]
    assert page.root.one("h1").text == shown
    blocks = [block.text for block in page.root.all("pre")]
    assert blocks[1:] == [shown, f"{shown} = {shown}"]
    # In every place, 3 names, 3 functions, 4 at once ..., as often as the harmless text.
    assert page.root.text.count(shown) >= 20


def test_page_escapes_quotes() -> None:
    """As 7.0.4 did: a program may look for it."""
    assert "no table &#x27;flights&#x27;" in render()
    assert "&quot;" in render(report(failed('a "b"')))


def test_page_shows_what_has_no_repr() -> None:
    """An argument whose repr raises costs its own place only."""
    text = Page(render(report(failed(args=(Unprintable(), 2), kwargs={"k": Unprintable()})))).root.text
    assert "<unreprable: RuntimeError: <no repr>>, 2, k=<unreprable: RuntimeError: <no repr>>" in text


def test_page_shows_lines_in_a_name_as_one() -> None:
    """A name is part of a line; a traceback keeps its lines."""
    made = report(failed("a\nb\tc"))
    assert summaries(render(made)) == [r"a\nb\tc Error"]
    assert TRACEBACK.strip() in Page(render(made)).root.text


# ---- its size --------------------------------------------------------------------------------------------------------

GIANT = 10**6


def giant(name: str = "giant", text: str = "<'\"&>") -> TaskReportEntry:
    """A failure of which everything is huge."""
    huge = text * GIANT
    known = error(
        exception=huge,
        exception_type="E" * GIANT,
        traceback_str=huge,
        traced_vars={f"{huge}{number}": huge for number in range(3)} | {str(n): "" for n in range(10**4)},
        traced_vars_location=huge,
        downstream_impact=["d" * GIANT] * 1000,
    )
    log = (AttemptRecord(1, "o" * GIANT, 1.0, huge),) * 1000
    told = failed(name * GIANT, error=known, attempt_log=log, function=huge)
    return replace(told, args=(b"x" * GIANT,) * 1000, kwargs={"k" * GIANT: huge})


MANY = 10_000

#: {what there is much of: makes the entries}. They are made by the test that looks at them: a million objects that live
#: as long as this module would make each garbage collection of the whole run slow.
SIZES: dict[str, Callable[[], list[TaskReportEntry]]] = {
    "failures": lambda: [failed(f"task {number}") for number in range(MANY)],
    "skipped": lambda: [skipped(f"task {number}") for number in range(2 * MANY)],
    "successes": lambda: [succeeded(f"task {number}") for number in range(2 * MANY)],
    "mixed": lambda: [*(failed(f"task {number}") for number in range(MANY)), skipped("s"), succeeded("o")],
    "one giant": lambda: [giant()],
    "giants of one byte": lambda: [giant(text="x")],
    "giants of six bytes": lambda: [giant(text="'")],
    "giants of four bytes": lambda: [giant(text="\U0001f469")],
    "giants of escapes": lambda: [giant(text="\x00\ud800")],
    "giants of lines": lambda: [giant(text="\n")],
}


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("errors_only", [False, True])
@pytest.mark.parametrize("kind", SIZES)
def test_page_stays_small_whatever_it_tells(kind: str, errors_only: bool, language: str) -> None:
    """No client cuts it off: it still closes in order, and the counts are those of the report."""
    made = report(*SIZES[kind](), name="p" * GIANT, warnings=("'" * GIANT,) * 1000)
    text = render(made, "catppuccin", language, errors_only=errors_only)
    assert len(text.encode()) <= RENDERED_MAX < CUT_OFF
    page = Page(text).root
    counts = [str(len(entries)) for entries in (made.successes, made.errored, made.skipped)]
    assert counts_of(text) == counts
    assert bool(page.all("details")) == bool(made.errored or not errors_only)


def test_page_of_many_entries_counts_those_it_does_not_show() -> None:
    """Failures first and in full, further ones in short; then skipped and successes; of each kind some are shown."""
    entries = [make(f"{make.__name__} {n}") for n in range(MANY) for make in (succeeded, failed, skipped)]
    page = Page(render(report(*entries))).root
    kinds = [task.one("summary").text.split()[0] for task in page.all("details")]
    assert kinds == sorted(kinds, key=["failed", "skipped", "succeeded"].index)
    full = [task for task in page.all("details") if task.all("pre")]
    assert len(full) >= 5
    assert full == page.all("details")[: len(full)]
    left_out = [MANY - kinds.count(kind) for kind in ("failed", "skipped", "succeeded")]
    assert [int(count) for count in re.findall(r"Not shown here: (\d+) more", page.text)] == left_out
    assert min(kinds.count(kind) for kind in ("failed", "skipped", "succeeded")) >= 10
    assert "In short, to keep this message small:" in page.text


def test_page_gives_few_failures_the_room_they_need() -> None:
    """A traceback of 200 lines is shown whole, though thousands succeeded."""
    lines = "".join(f'  File "/srv/app/module.py", line {n}, in f\n' for n in range(200))
    made = report(failed(error=error(traceback_str=lines)), *(succeeded(f"s{n}") for n in range(MANY)))
    assert lines.strip("\n") in Page(render(made)).root.text


def test_page_cuts_the_middle_of_a_traceback() -> None:
    """Where it began and how it ended are what one looks for; it says how much is missing."""
    made = report(failed(error=error(traceback_str=f"BEGIN {'x' * GIANT} END")))
    traceback = tasks_of(render(made))[0].all("pre")[1].text
    assert traceback.startswith("BEGIN xxx")
    assert traceback.endswith("xxx END")
    (left_out,) = re.findall(r"\[… characters left out: (\d+) …\]", traceback)
    assert int(left_out) + re.sub(r"\[.*\]", "", traceback).count("x") == GIANT


class NeverRead:
    """Stands for what it would cost to look at: nobody may."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def test_page_looks_only_at_what_it_shows() -> None:
    """Twenty thousand entries cost little, since of most only status and times are read."""
    shown: Any = [succeeded(f"task {number}") for number in range(1000)]
    rest: Any = [succeeded(f"task {number}", args=NeverRead(), usage=NeverRead()) for number in range(1000, 2000)]
    assert len(tasks_of(render(report(*shown, *rest)))) < 1000


# ---- where it is read ------------------------------------------------------------------------------------------------


def test_page_runs_nothing_and_fetches_nothing() -> None:
    """No script, no picture, no font, no link; no comment either."""
    text = render(report(succeeded(), failed(), skipped(), warnings=("w",)))
    page = Page(text)
    assert not {made for tag in ("script", "img", "link", "a", "iframe", "form", "svg") for made in page.root.all(tag)}
    assert not re.search(r"https?:|url\(|@import|javascript:|src=|href=| on\w+=", text)
    assert page.comments == []
    assert "{{" not in text


@pytest.mark.parametrize("palette", PALETTES)
def test_page_needs_neither_style_element_nor_variables(palette: str) -> None:
    """Elements carry plain colours; outside of `<style>` there is no variable."""
    text = render(palette=palette)
    assert "var(" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL)
    assert re.findall(r"var\(--[a-z-]+\)", text) == []  # Each has a colour to fall back to.


def test_page_is_laid_out_by_tables() -> None:
    """Outlook knows nothing else; no table tells a screen reader of columns that are none."""
    text = render(report(succeeded(), failed(), skipped(), warnings=("w",)))
    assert not re.search(r"flex|grid|float:|position:|columns:", text)
    tables = Page(text).root.all("table")
    assert len(tables) >= 4
    assert {table.attributes["role"] for table in tables} == {"presentation"}


def test_page_can_be_read_where_details_are_unknown() -> None:
    """The first line of each is followed by a block, so that without folding nothing runs together or is missing."""
    tasks = tasks_of(render(report(succeeded(), failed(), skipped())))
    assert len(tasks) == 3
    for task in tasks:
        first, *rest = (child.tag for child in task.children)
        assert first == "summary"
        assert rest
        assert set(rest) <= {"div", "table", "pre"}


@pytest.mark.parametrize(("palette", "pinned"), PINNED)
def test_page_holds_the_palette(palette: str, pinned: str) -> None:
    """As custom properties of :root, those of 7.0.4 with its values where programs look for them."""
    text = render(palette=palette)
    root = re.search(r":root \{(.*?)\}", text, re.DOTALL)
    assert root is not None
    assert pinned in root[1]
    assert set(re.findall(r"--([a-z-]+):", root[1])) >= PALETTE_VARIABLES
    assert "{{__palette_css__}}" not in text


def luminance(colour: str) -> float:
    """Relative luminance, by WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


class Colours:
    """What a page's text is painted with, as a mail client works it out."""

    def __init__(self, text: str) -> None:
        self.page = Page(text)
        css = self.page.root.one("style").text
        light, dark = (
            dict(re.findall(r"--([a-z-]+): (#\w{6});", block))
            for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
        )
        self.variables = {"light": light, "dark": dark}
        #: {(class, property): variable}.
        self.rules = {
            (name, what): variable
            for name, body in re.findall(r"^\.([a-z]+) \{(.*?)\}", css, re.MULTILINE)
            for what, variable in re.findall(r"([a-z-]+): var\(--([a-z-]+), #\w{6}\) !important", body)
        }

    def of(self, element: Element, what: str, mode: str) -> str:
        """A colour of an element: "plain" by its own style, "light" and "dark" by what its classes make of it."""
        inside: Element | None = element
        while inside is not None:
            if mode != "plain":
                by_class = [self.rules[name, what] for name in inside.classes if (name, what) in self.rules]
                if by_class:
                    return str(self.variables[mode][by_class[-1]])
            plain = re.search(rf"(?:^|;){what}:(#\w{{6}})", inside.attributes.get("style") or "")
            if plain:
                assert mode == "plain", f"{what} of {inside.attributes} does not turn dark"
                return plain[1]
            inside = inside.parent
        raise AssertionError(f"no {what} around {element.tag}")

    def pairs(self, mode: str) -> set[tuple[str, str]]:
        """(text colour, background) of every piece of text that is shown."""
        return {
            (self.of(around, "color", mode), self.of(around, "background-color", mode))
            for text, around in self.page.pieces
            if text.strip() and around.tag not in ("title", "style")
        }


def colours_of(palette: str) -> Colours:
    """Those of a report with something in every place."""
    return Colours(render(report(succeeded(), failed(), skipped(), warnings=("w",)), palette))


@pytest.mark.parametrize("mode", ["plain", "light", "dark"])
@pytest.mark.parametrize("palette", PALETTES)
def test_page_can_be_read_in_every_mode(palette: str, mode: str) -> None:
    """Every text stands out against its background, by day and by night."""
    pairs = colours_of(palette).pairs(mode)
    assert len(pairs) >= 7
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < CONTRAST_MIN} == {}


@pytest.mark.parametrize("palette", PALETTES)
def test_page_looks_the_same_with_and_without_variables(palette: str) -> None:
    """What the classes say by day is what the elements say themselves."""
    made = colours_of(palette)
    assert made.pairs("light") == made.pairs("plain")
    assert made.pairs("dark") != made.pairs("light")
    assert made.variables["light"].keys() == made.variables["dark"].keys()


def test_contrast_is_that_of_wcag() -> None:
    """Known pairs."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_page_taken_apart_tells_wrong_nesting() -> None:
    """The look at the nesting would find it."""
    for wrong in ("<b><i></b></i>", "<div>", "</p>"):
        with pytest.raises(AssertionError):
            Page(wrong)


def test_page_fits_a_telephone() -> None:
    """No width but of tables in per cent and of the column of labels; long words break."""
    text = render()
    assert set(re.findall(r'width="(\w+%?)"', text)) == {"100%", "110", "8"}
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in text
    assert "overflow-wrap:anywhere" in text
    assert html.escape(outline.badge_of(TaskStatus.ERRORED, words_of("en"))) in text
