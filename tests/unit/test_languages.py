"""Every text that a report is rendered with exists in every language."""

import json
import re
from importlib import resources

import pytest

from processes.comms import outline
from processes.comms.html import HTMLEmailStyle, render_html
from processes.comms.outline import LANGUAGES, words_of
from processes.events import TaskStatus
from processes.report import ReportContent
from support.reports import GENERATED, failed, report

#: Fixed by 7.0.4: keys, and their English texts.
ENGLISH = {
    "lang_function_label": "Function",
    "lang_exception_label": "Exception",
    "lang_downstream_title": "Downstream Impact",
    "lang_traceback_title": "Traceback",
    "lang_traced_vars_title": "Traced Variables",
    "lang_traced_vars_blurb": "The following local variables had these values at {location}:",
    "lang_report_title_prefix": "Process Report",
    "lang_report_header": "Process Execution Report",
    "lang_report_header_errors_only": "Failed Tasks Report",
    "lang_report_email_subject": "Process Execution Report",
    "lang_report_email_subject_errors": "Failed Tasks in Process",
    "lang_report_summary_title": "Summary",
    "lang_report_success_label": "Successes",
    "lang_report_error_label": "Errors",
    "lang_report_skipped_label": "Skipped",
    "lang_status_success": "Success",
    "lang_status_errored": "Error",
    "lang_status_skipped": "Skipped",
}

#: {language: (how many were skipped, the badge of one)}, feminine as "task" is there.
SKIPPED = {
    "de": ("Übersprungen", "Übersprungen"),
    "en": ("Skipped", "Skipped"),
    "es": ("Omitidas", "Omitida"),
    "fr": ("Ignorées", "Ignorée"),
    "it": ("Saltate", "Saltata"),
    "pt": ("Ignoradas", "Ignorada"),
}

SUMMARY = {
    "de": "Zusammenfassung",
    "en": "Summary",
    "es": "Resumen",
    "fr": "Résumé",
    "it": "Riepilogo",
    "pt": "Resumo",
}

#: Words that another language shares with English.
SAME_AS_ENGLISH = {
    ("es", "lang_status_errored"),
    ("fr", "lang_arguments_label"),
    ("fr", "lang_exception_label"),
    *((language, "lang_colon") for language in ("de", "es", "it", "pt")),
}

COMMS = resources.files("processes.comms")


def test_languages_are_the_files_that_there_are() -> None:
    """None is listed without its file, none lies there unlisted."""
    files = {entry.name for entry in (COMMS / "themes" / "languages").iterdir()}
    assert files == {f"{language}.json" for language in LANGUAGES}
    assert len(LANGUAGES) == 6


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_has_every_key_once(language: str) -> None:
    """A text that is missing is an error here, and English nowhere; 7.0.4's keys are all there."""
    pairs = json.loads(outline.theme_file(f"languages/{language}.json"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))
    assert set(keys) == set(words_of("en"))
    assert set(keys) >= set(ENGLISH)


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_says_something_for_every_key(language: str) -> None:
    """No text is empty, and each has the slots of the English one, no others."""
    for key, text in words_of(language).items():
        assert text.strip(), key
        assert re.findall(r"\{\w*\}", text) == re.findall(r"\{\w*\}", words_of("en")[key]), key


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_language_is_translated(language: str) -> None:
    """What is the same as in English is known to be the same word."""
    same = {(language, key) for key, text in words_of(language).items() if text == words_of("en")[key]}
    assert same == {pair for pair in SAME_AS_ENGLISH if pair[0] == language}


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_keeps_the_summary_title_of_old(language: str) -> None:
    """Programs look for it."""
    assert words_of(language)["lang_report_summary_title"] == SUMMARY[language]


def test_english_keeps_the_texts_of_old() -> None:
    """17.9: all eighteen, to the letter."""
    assert {key: words_of("en")[key] for key in ENGLISH} == ENGLISH


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_counts_in_the_plural(language: str) -> None:
    """17.9: the label of a count and the badge of one task are two words where the language has two."""
    words = words_of(language)
    assert (words["lang_report_skipped_label"], words["lang_status_skipped"]) == SKIPPED[language]


def test_french_has_its_apostrophe_and_its_space() -> None:
    """17.9: in a page the apostrophe is escaped; the sentence has a space before its colon."""
    words = words_of("fr")
    page = render_html(
        report(failed()),
        style=HTMLEmailStyle(language="fr"),
        content=ReportContent(),
        errors_only=False,
        generated_at=GENERATED,
    )
    for key in ("lang_report_header", "lang_traceback_title"):
        assert "'" in words[key]
        assert words[key].replace("'", "&#x27;") in page
    assert words["lang_traced_vars_blurb"].endswith("{location} :")


def test_language_keys_are_those_that_are_used() -> None:
    """No text is asked for that is not there, none is there that nothing asks for."""
    sources = [COMMS / "outline.py", COMMS / "html.py", COMMS / "text.py", COMMS / "themes" / "styles" / "report.html"]
    used = {key for source in sources for key in re.findall(r"\blang_\w+", source.read_text(encoding="utf-8"))}
    assert used == set(words_of("en"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_tells_every_status_apart(language: str) -> None:
    """The four badges."""
    badges = [outline.badge_of(status, words_of(language)) for status in TaskStatus]
    assert len(set(badges)) == 4


def test_words_of_an_unknown_language_are_an_error() -> None:
    """Not English."""
    with pytest.raises(FileNotFoundError):
        words_of("xx")
