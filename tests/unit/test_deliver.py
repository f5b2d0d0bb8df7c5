"""A report goes to each channel as asked, and what a channel raises is told, each time, but stops nothing."""

import dataclasses
import logging
import pickle
import sys
import warnings
import weakref
from collections.abc import Iterable
from dataclasses import FrozenInstanceError

import pytest

from processes import (
    Delivery,
    ErrorData,
    ProcessExecutionReport,
    ReportChannel,
    ReportContent,
    TaskReportEntry,
    TaskStatus,
)

ERROR = ErrorData("bad", "fail", exception="wrong", exception_type="ValueError")


def entry(name: str, status: TaskStatus) -> TaskReportEntry:
    error = ERROR if status is TaskStatus.ERRORED else None
    return TaskReportEntry(name, "func", (), {}, status, 0.5, 1, error=error)


def report(*errored: str, ok: Iterable[str] = ("ok",), name: str = "nightly") -> ProcessExecutionReport:
    statuses = dict.fromkeys(ok, TaskStatus.SUCCESS) | dict.fromkeys(errored, TaskStatus.ERRORED)
    return ProcessExecutionReport({key: entry(key, status) for key, status in statuses.items()}, name, ("disk full",))


class Sink(ReportChannel):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[tuple[ProcessExecutionReport, bool]] = []

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        self.got.append((report, errors_only))

    def names(self) -> list[tuple[list[str], bool]]:
        """The names of tasks in each report, and whether only failures were asked for."""
        return [(list(report.entries), errors_only) for report, errors_only in self.got]


class Broken(ReportChannel):
    """Raises what it was made with."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        raise self.error


class Unprintable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ZeroDivisionError


WITH_ERROR = report("bad")
WITHOUT_ERROR = report()
ALL = ["ok", "bad"]

#: (only_errors, tasks, report) -> the names that are sent, or None for no call. As in 7.0.4 but where a comment says.
TABLE: list[tuple[bool, list[str] | str | None, ProcessExecutionReport, list[str] | None]] = [
    (False, None, WITH_ERROR, ALL),
    (False, None, WITHOUT_ERROR, ["ok"]),
    (False, ["bad"], WITH_ERROR, ["bad"]),
    (False, ["ok"], WITHOUT_ERROR, ["ok"]),
    (False, ["bad", "OK"], WITH_ERROR, ALL),
    (False, [], WITH_ERROR, []),
    (False, [], WITHOUT_ERROR, []),
    (False, "ok", WITH_ERROR, ["ok"]),  # 7.0.4 took a string for its letters, and sent nothing
    (True, None, WITH_ERROR, ALL),
    (True, None, WITHOUT_ERROR, None),
    (True, ["BAD"], WITH_ERROR, ["bad"]),
    (True, "Bad", WITH_ERROR, ["bad"]),
    (True, ["ok"], WITH_ERROR, None),  # 7.0.4 sent an alarm that named no failure
    (True, [], WITH_ERROR, None),  # likewise
    (True, ["ok"], WITHOUT_ERROR, None),
    (True, [], WITHOUT_ERROR, None),
    (True, None, ProcessExecutionReport(), None),
    (False, None, ProcessExecutionReport(), []),
]


@pytest.mark.parametrize(("only_errors", "tasks", "given", "sent"), TABLE)
def test_notify_sends_what_the_options_ask_for(
    only_errors: bool, tasks: list[str] | str | None, given: ProcessExecutionReport, sent: list[str] | None
) -> None:
    """Tasks are chosen first; then, for failures only, the question is whether one is among them."""
    sink = Sink()
    deliveries = given.notify(sink, only_errors=only_errors, tasks=tasks)
    assert sink.names() == ([] if sent is None else [(sent, only_errors)])
    assert [delivery.delivered for delivery in deliveries] == ([] if sent is None else [True])


@pytest.mark.parametrize("only_errors", [False, True])
def test_notify_hands_over_the_report_itself(only_errors: bool) -> None:
    """Without `tasks`, every channel gets the same object, whole."""
    first, second = Sink(), Sink()
    WITH_ERROR.notify(first, second, only_errors=only_errors)
    assert [got is WITH_ERROR for got, _ in first.got + second.got] == [True, True]


def test_notify_keeps_all_but_the_other_tasks() -> None:
    """The restricted report has the order, the spelling, the name and the warnings of the whole one."""
    given = report("Straße", "b", ok=["c"])
    sink = Sink()
    given.notify(sink, tasks=["B", "STRASSE"])
    assert sink.got == [
        (dataclasses.replace(given, entries={key: given.entries[key] for key in ("Straße", "b")}), False)
    ]
    assert list(sink.got[0][0].entries) == ["Straße", "b"]
    assert list(given.entries) == ["c", "Straße", "b"]


def test_notify_calls_channels_in_their_order() -> None:
    """15.1: one after the other, each once, the same one twice if it is named twice."""
    called: list[str] = []

    class Noter(ReportChannel):
        def __init__(self, name: str) -> None:
            self.name = name

        def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
            called.append(self.name)

    first, second = Noter("first"), Noter("second")
    WITH_ERROR.notify(first, second, second)
    assert called == ["first", "second", "second"]


def test_content_is_frozen_and_by_value() -> None:
    """16.1: everything is shown unless it is said otherwise."""
    made = ReportContent()
    assert (made.show_traceback, made.show_traced_vars) == (True, True)
    assert ReportContent(False, True) == ReportContent(show_traceback=False) != made
    with pytest.raises(FrozenInstanceError):
        made.show_traceback = False  # type: ignore[misc]
    assert not hasattr(made, "__dict__")


def test_notify_without_channels_does_nothing() -> None:
    """No channel, no delivery."""
    assert WITH_ERROR.notify() == ()


@pytest.mark.parametrize("only_errors", [False, True])
@pytest.mark.parametrize("tasks", [["ok", "typo", "other"], ("typo", "other"), dict.fromkeys(["typo", "bad", "other"])])
def test_notify_refuses_unknown_names_before_any_channel_is_called(tasks: Iterable[str], only_errors: bool) -> None:
    """A typing error is told with the names there are."""
    sink = Sink()
    expected = r"^The report has no task 'typo', 'other'\. It has: 'ok', 'bad'\.$"
    with pytest.raises(ValueError, match=expected):
        WITH_ERROR.notify(sink, tasks=tasks, only_errors=only_errors)
    assert sink.got == []


@pytest.mark.parametrize(("tasks", "text"), [("typo", "has no task 'typo'"), ("", "has no task ''")])
def test_notify_takes_a_string_for_one_name(tasks: str, text: str) -> None:
    """Not for a list of letters."""
    with pytest.raises(ValueError, match=text):
        WITH_ERROR.notify(tasks=tasks)


def test_notify_lists_few_of_many_names() -> None:
    """The error about one name does not hold ten thousand."""
    given = report(ok=[f"task{number}" for number in range(10_000)])
    with pytest.raises(ValueError, match=r"'task19' and 9980 more\.$"):
        given.notify(tasks=["typo"])


@pytest.mark.parametrize("tasks", [[None], [1, "ok"], [b"ok"]])
def test_notify_refuses_what_is_no_name(tasks: list[str]) -> None:
    """A type error, and no channel is called."""
    sink = Sink()
    with pytest.raises(TypeError, match="tasks must be names"):
        WITH_ERROR.notify(sink, tasks=tasks)
    assert sink.got == []


def test_notify_tells_what_failed_and_goes_on() -> None:
    """A broken channel between two others: each is called, the caller learns how each fared."""
    error = RuntimeError("smtp down")
    first, last = Sink(), Sink()
    with pytest.warns(UserWarning, match="^Broken failed to send report: smtp down$") as caught:
        deliveries = WITH_ERROR.notify(first, Broken(error), last)
    assert [(sent.channel, sent.delivered, sent.error) for sent in deliveries] == [
        ("Sink", True, None),
        ("Broken", False, error),
        ("Sink", True, None),
    ]
    assert all(sent.seconds >= 0 for sent in deliveries)
    assert len(caught) == 1
    assert len(first.got) == len(last.got) == 1


def test_delivery_is_plain_data() -> None:
    """Frozen, by value, and public."""
    sent = Delivery("Sink", delivered=True, error=None, seconds=0.5)
    assert pickle.loads(pickle.dumps(sent)) == sent
    with pytest.raises(FrozenInstanceError):
        sent.delivered = False  # type: ignore[misc]


def test_failure_is_logged_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """One error of the logger `processes` a failure, with the channel's class and what it raised."""
    for _ in range(3):
        WITH_ERROR.notify(Broken(RuntimeError("smtp down")), show_warnings=False)
    assert caplog.record_tuples == [("processes", logging.ERROR, "Broken failed to send report: smtp down")] * 3


def test_failure_warns_each_time_under_the_default_filter() -> None:
    """Python shows a warning once a place; a report that is not delivered is shown whenever it happens."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            WITH_ERROR.notify(Broken(RuntimeError("smtp down")))
    assert [str(warning.message) for warning in caught] == ["Broken failed to send report: smtp down"] * 3


def test_warning_names_the_line_that_called_notify() -> None:
    """As `stacklevel` would."""
    line = sys._getframe().f_lineno + 2
    with pytest.warns(UserWarning, match="Broken") as caught:
        WITH_ERROR.notify(Broken(RuntimeError("x")))
    assert [(told.filename, told.lineno, told.category) for told in caught] == [(__file__, line, UserWarning)]


@pytest.mark.parametrize("action", ["ignore", "error"])
def test_application_decides_about_warnings(action: str) -> None:
    """Its filters hold; one that raises does so when every channel has been called."""
    sink = Sink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        if action == "error":
            with pytest.raises(UserWarning, match="Broken failed"):
                WITH_ERROR.notify(Broken(RuntimeError("x")), sink)
        else:
            WITH_ERROR.notify(Broken(RuntimeError("x")), sink)
    assert caught == []
    assert len(sink.got) == 1


def test_warnings_can_be_switched_off() -> None:
    """The failure is still returned; a warning would be an error here."""
    (sent,) = WITH_ERROR.notify(Broken(RuntimeError("x")), show_warnings=False)
    assert not sent.delivered


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unprintable(), "<str() of this unit.test_deliver.Unprintable raised ZeroDivisionError>"),
        (ValueError(), "ValueError"),
        (OSError("x" * 9_000), "x ... [7000 characters left out] ... x"),
    ],
)
def test_failure_of_any_kind_has_a_bounded_text(error: Exception, told: str) -> None:
    """An error without text, with too much of it, or whose text cannot be had."""
    with pytest.warns(UserWarning, match="Broken failed to send report: ") as caught:
        WITH_ERROR.notify(Broken(error))
    text = str(caught[0].message)
    assert text.replace("x" * 999, "").replace(type(error).__module__, "unit.test_deliver").endswith(told)
    assert len(text) < 3_000


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_wish_to_end_passes_through(error: BaseException) -> None:
    """Ctrl-C, or a handler of SIGTERM that exits, while a channel sends: nothing else is called."""
    sink = Sink()
    with pytest.raises(type(error)) as raised:
        WITH_ERROR.notify(Broken(error), sink)
    assert raised.value is error
    assert sink.got == []


def test_object_that_cannot_send_fails_like_a_channel() -> None:
    """A class in place of its object, a list in place of what it holds: told, and the next one is called."""
    sink = Sink()
    with pytest.warns(UserWarning, match="list failed to send report: 'list' object has no attribute"):
        deliveries = WITH_ERROR.notify([sink], sink)  # type: ignore[arg-type]
    assert [sent.delivered for sent in deliveries] == [False, True]


class Held:
    """Something large."""


class Holder(ReportChannel):
    """Fails with something in a local variable."""

    held: weakref.ref[Held]

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        held = Held()
        self.held = weakref.ref(held)
        raise RuntimeError


def test_kept_error_does_not_keep_what_its_frames_held() -> None:
    """A delivery may be kept for long: not with the channel's local variables."""
    channel = Holder()
    (sent,) = WITH_ERROR.notify(channel, show_warnings=False)
    assert sent.error is not None
    assert channel.held() is None


class BrokenHandler(logging.Handler):
    """Raises, as no handler should."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ZeroDivisionError


def test_broken_log_handler_stops_nothing() -> None:
    """A handler of the application that raises loses the line, not the other channels."""
    handler = BrokenHandler()
    logging.getLogger("processes").addHandler(handler)
    sink = Sink()
    try:
        deliveries = WITH_ERROR.notify(Broken(RuntimeError("x")), sink, show_warnings=False)
    finally:
        logging.getLogger("processes").removeHandler(handler)
    assert [sent.delivered for sent in deliveries] == [False, True]


def test_channel_called_directly_raises() -> None:
    """Only notify catches."""
    with pytest.raises(RuntimeError, match="smtp down"):
        Broken(RuntimeError("smtp down")).send_report(WITH_ERROR, errors_only=False)


def test_channel_must_say_how_it_sends() -> None:
    """The port is abstract."""
    with pytest.raises(TypeError, match="abstract"):
        ReportChannel()  # type: ignore[abstract]
