"""What every rendered report shares: text that can be shown, figures for people, and what fits."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from processes.comms import outline
from processes.comms.outline import LISTED_MAX, NAME_CHARS_MAX, words_of
from processes.events import TaskStatus
from processes.record import AttemptRecord
from processes.report import entry_of
from processes.usage import Measure
from support import reports
from support.reports import GENERATED, HOSTILE, STARTED, error, failed, report, skipped, succeeded

EN, DE, FR = words_of("en"), words_of("de"), words_of("fr")


@pytest.mark.parametrize(("typed", "shown"), HOSTILE, ids=[ascii(typed) for typed, _ in HOSTILE])
def test_clean_shows_what_would_act(typed: str, shown: str) -> None:
    """As an escape; all else as it is."""
    assert outline.clean(typed) == shown


def test_clean_keeps_lines_and_tabs() -> None:
    """Of the three kinds of line ends only a lone return is an escape."""
    assert outline.clean("a\n\tb\r\nc\rd") == "a\n\tb\nc\\rd"
    assert outline.in_line("a\n\tb") == "a\\n\\tb"


def test_in_line_cuts_at_the_limit() -> None:
    """One character says that there is more."""
    assert outline.in_line("x" * NAME_CHARS_MAX) == "x" * NAME_CHARS_MAX
    assert outline.in_line("x" * (NAME_CHARS_MAX + 1)) == "x" * (NAME_CHARS_MAX - 1) + "…"


def test_cut_keeps_both_ends_and_counts_the_rest() -> None:
    """In the reader's language."""
    assert outline.cut("abc" + "x" * 100 + "uvwxyz", 9, EN) == "abc\n[… characters left out: 100 …]\nuvwxyz"
    assert outline.cut("abc" + "x" * 100 + "uvwxyz", 9, DE) == "abc\n[… ausgelassene Zeichen: 100 …]\nuvwxyz"
    assert outline.cut("x" * 9, 9, EN) == "x" * 9
    assert outline.cut("xyz", 0, EN) == "\n[… characters left out: 3 …]\n"


@pytest.mark.parametrize("text", ["x" * 5000, "\x00" * 5000, "\U0001f469" * 5000, "a" * 3000 + "\ud800" * 3000])
@pytest.mark.parametrize("room", [0, 1, 100, 1000])
def test_fitted_is_no_larger_than_its_room(text: str, room: int) -> None:
    """But for the line that says what is missing; and no smaller than need be."""
    size = outline.size_of(outline.fitted(text, room, EN, outline.size_of))
    assert size <= room + NAME_CHARS_MAX
    assert size >= room // 3


def test_fitted_leaves_alone_what_fits() -> None:
    """Measured as it will be shown."""
    assert outline.fitted("x" * 100, 100, EN, outline.size_of) == "x" * 100
    assert "left out" in outline.fitted("x" * 100, 100, EN, lambda text: 4 * len(text))


def test_listed_counts_what_it_does_not_show() -> None:
    """Twenty thousand dependants are a number."""
    names = [f"n{number}" for number in range(LISTED_MAX + 5)]
    assert outline.listed(names[:2], EN) == "n0, n1"
    assert outline.listed(names, EN).endswith(f"n{LISTED_MAX - 1}, Not shown here: 5 more")
    assert outline.listed(names[:LISTED_MAX], EN).endswith(f"n{LISTED_MAX - 1}")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ms"),
        (0.084, "84 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.10 s"),
        (9.994, "9.99 s"),
        (10.0, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (192.4, "3 min 12 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
        (float("nan"), "nan s"),
        (float("inf"), "inf s"),
    ],
)
def test_duration_is_for_people(seconds: float, shown: str) -> None:
    """No more figures than anybody reads."""
    assert outline.duration(seconds, EN) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**29, "1.5 GiB"),
        (2**40, "1.0 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_memory_is_for_people(size: int, shown: str) -> None:
    """In the largest unit that is not more than it."""
    assert outline.memory(size, EN) == shown


def test_figures_have_the_mark_of_the_language() -> None:
    """A comma where it is usual."""
    assert (outline.duration(1.25, DE), outline.memory(3 * 2**29, DE)) == ("1,25 s", "1,5 GiB")
    assert outline.labelled("Durée", "1 s", FR) == "Durée : 1 s"


def test_moment_is_in_the_readers_zone_and_names_it() -> None:
    """In UTC where the reader's is not known."""
    assert outline.moment(STARTED, GENERATED) == "2026-01-02 04:04:05 CET"
    assert outline.moment(STARTED, GENERATED.replace(tzinfo=None)) == "2026-01-02 03:04:05 UTC"


def test_outline_takes_the_times_of_all_tasks() -> None:
    """From the first start to the last end, in whatever order they are."""
    later = succeeded("later", started_at=STARTED + timedelta(hours=1), ended_at=STARTED + timedelta(hours=2))
    made = outline.outline_of(report(later, succeeded(), skipped()), EN, errors_only=False, generated_at=GENERATED)
    assert made.facts == [("Started", "2026-01-02 04:04:05 CET"), ("Duration", "2 h 00 min")]
    made = outline.outline_of(report(skipped()), EN, errors_only=False, generated_at=GENERATED)
    assert made.facts == []


def test_outline_headline_tells_the_worst_first() -> None:
    """It is what a telephone shows of a mail."""
    made = outline.outline_of(report(), EN, errors_only=False, generated_at=GENERATED)
    assert made.headline(EN) == "Errors: 1 · Skipped: 2 · Successes: 1 · load"


def test_outline_loads_no_result() -> None:
    """A result may be gigabytes, or fail to load."""

    def explode(handle: object) -> object:
        raise AssertionError(handle)

    call = SimpleNamespace(name="lazy", func=len, args=(), kwargs={})
    made_once = [(Measure(1.0, 2.25, 7, 0.5, 0.0, 64 * 2**20, 0, "VmHWM"), None)]
    lazy = entry_of(reports.recorded(call, explode, made_once, status=TaskStatus.SUCCESS, handle="handle"))
    made = outline.outline_of(report(lazy), EN, errors_only=False, generated_at=GENERATED)
    assert [id(entry) for entry in made.successes] == [id(lazy)]
    assert outline.gist_of(lazy, EN) == "1.25 s · 64.0 MiB"
    assert ("Attempts", "1") in outline.facts_of(lazy, EN, GENERATED)


def test_attempts_are_told_where_there_was_more_than_one() -> None:
    """A line each; of hundreds, the first ones."""
    once = (AttemptRecord(1, "ValueError", 1.0, "a\nb"),)
    assert outline.attempts_of(failed(attempt_log=once), EN) == ""
    assert outline.attempts_of(failed(attempt_log=once * 2), EN).splitlines()[0] == "1. ValueError: a\\nb (1.00 s)"
    many = outline.attempts_of(failed(attempt_log=once * 100), EN).splitlines()
    assert (len(many), many[-1]) == (LISTED_MAX + 1, f"Not shown here: {100 - LISTED_MAX} more")


def test_exception_has_its_type_where_it_is_known() -> None:
    """7.0.4's data has none."""
    assert outline.exception_of(error(), EN) == "ValueError: no table 'flights'"
    assert outline.exception_of(error(exception_type=""), EN) == "no table 'flights'"
    assert outline.exception_of(error(exception=""), EN) == "ValueError"


@pytest.mark.parametrize(
    ("why", "shown"),
    [
        ("it depends on 'load', which failed", "sie hängt von 'load' ab, die fehlgeschlagen ist"),
        (
            "'load' failed, and the run was to stop at the first failure",
            "'load' ist fehlgeschlagen, und der Lauf sollte beim ersten Fehler enden",
        ),
        ("the run's deadline of 1.5s passed", "die Frist des Laufs von 1.5 s ist verstrichen"),
        ("the run was interrupted", "der Lauf wurde unterbrochen"),
        ("it depends on '{what}\\1', which failed", "sie hängt von '{what}\\1' ab, die fehlgeschlagen ist"),
        ("the run broke off: no memory", "the run broke off: no memory"),
        ("", ""),
    ],
)
def test_why_a_task_never_ran_is_told_in_the_readers_language(why: str, shown: str) -> None:
    """The usual reasons; any other as it is."""
    assert outline.why_of(skipped(why=why), DE) == shown
    assert outline.why_of(skipped(why=why), EN) == why
    assert outline.gist_of(skipped(why=why), DE) == shown


def test_arguments_are_told_as_in_a_call() -> None:
    """Of thousands, the first ones."""
    facts = dict(outline.facts_of(failed(args=(1, "a"), kwargs={"k": None}), EN, GENERATED))
    assert facts["Arguments"] == "1, 'a', k=None"
    facts = dict(outline.facts_of(failed(args=tuple(range(1000))), EN, GENERATED))
    assert facts["Arguments"].endswith(f"{LISTED_MAX - 1}, year=2026, …")
    assert "Arguments" not in dict(outline.facts_of(failed(args=(), kwargs={}), EN, GENERATED))


def test_instants_may_be_of_any_zone() -> None:
    """They are compared as instants."""
    here = datetime(2026, 1, 2, 4, 4, 6, tzinfo=GENERATED.tzinfo)
    made = outline.outline_of(
        report(succeeded(started_at=here), succeeded("b", started_at=STARTED.astimezone(UTC))),
        EN,
        errors_only=False,
        generated_at=GENERATED,
    )
    assert made.facts[0] == ("Started", "2026-01-02 04:04:05 CET")
