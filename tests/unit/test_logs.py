"""A record reaches the task's file and the application once each, and nothing of it gets lost on the way."""

import logging
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import launch, logs
from processes.error_data import CONTEXT_FIELDS, ErrorData
from processes.logs import (
    Destination,
    Listener,
    ShippingHandler,
    TaskFormatter,
    TaskLogger,
    failure_record,
    file_handler,
    pack,
    records_of,
    restore,
    task_record,
    thread_capture,
)


class Keeper(logging.Handler):
    """Keeps what it is given."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        """The messages."""
        return [record.getMessage() for record in self.records]


class Unprintable:
    """Its text cannot be had."""

    def __str__(self) -> str:
        msg = "no text"
        raise LookupError(msg)

    __repr__ = __str__


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger at WARNING, with pytest's handlers; afterwards all loggers are as they were."""
    root = logging.root
    registry = root.manager.loggerDict
    levels = {name: made.level for name, made in registry.items() if isinstance(made, logging.Logger)}
    level, known = root.level, set(registry)
    root.setLevel(logging.WARNING)
    yield root
    root.setLevel(level)
    for handler in [added for added in root.handlers if isinstance(added, Keeper)]:
        root.removeHandler(handler)
    for name in set(registry) - known:
        del registry[name]
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def opened() -> Iterator[Callable[[Path], logging.Handler]]:
    """Opens logfiles, and closes them when the test ends."""
    made: list[logging.Handler] = []

    def open_file(path: Path) -> logging.Handler:
        handler = file_handler(str(path))
        made.append(handler)
        return handler

    yield open_file
    for handler in made:
        handler.close()


def record(message: object = "text", *args: object, level: int = logging.INFO, **changes: Any) -> logging.LogRecord:  # noqa: ANN401
    """A record of the logger `app`."""
    made = logging.LogRecord("app", level, "app.py", 7, message, args, None)
    made.__dict__.update(changes)
    return made


# ---- files -----------------------------------------------------------------------------------------------------------


def test_file_handler_is_one_for_a_path(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """However many tasks share a file, it is opened once; another path is another file."""
    first = opened(tmp_path / "a.log")
    assert opened(tmp_path / "a.log") is first
    assert opened(tmp_path / "b.log") is not first


def test_file_handler_makes_the_file_at_once(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """It is there also where its task never runs; what it held before stays."""
    opened(tmp_path / "a.log")
    assert (tmp_path / "a.log").read_text() == ""
    (tmp_path / "b.log").write_text("earlier\n")
    opened(tmp_path / "b.log").handle(record("new"))
    assert (tmp_path / "b.log").read_text().startswith("earlier\n")


def test_file_handler_of_a_missing_folder_raises(tmp_path: Path) -> None:
    """Before anything runs."""
    with pytest.raises(FileNotFoundError):
        file_handler(str(tmp_path / "missing" / "a.log"))


def test_file_handler_follows_rotation(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """Lines go to the file of that name, also when somebody moved the old one away."""
    path = tmp_path / "a.log"
    handler = opened(path)
    handler.handle(record("before"))
    path.rename(tmp_path / "a.log.1")
    handler.handle(record("after"))
    assert (tmp_path / "a.log.1").read_text().endswith("before\n")
    assert path.read_text().endswith("after\n")
    assert "before" not in path.read_text()


def test_file_handler_opens_again_after_close(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """A task can be used in a second process."""
    handler = opened(tmp_path / "a.log")
    handler.handle(record("first"))
    handler.close()
    handler.handle(record("second"))
    assert [line.rpartition(" ")[2] for line in (tmp_path / "a.log").read_text().splitlines()] == ["first", "second"]


def test_file_handler_takes_info_and_above(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """Whatever the levels of the loggers."""
    assert opened(tmp_path / "a.log").level == logging.INFO


def test_file_handler_writes_any_text(tmp_path: Path, opened: Callable[[Path], logging.Handler]) -> None:
    """What UTF-8 cannot hold is written as an escape, not lost."""
    opened(tmp_path / "a.log").handle(record("é \udc80"))
    assert (tmp_path / "a.log").read_text(encoding="utf-8").endswith("é \\udc80\n")


# ---- a task's logger -------------------------------------------------------------------------------------------------


def test_task_logger_is_in_no_registry(root: logging.Logger) -> None:
    """Names in logging's registry stay for ever, and every level set sweeps them all."""
    before = set(root.manager.loggerDict)
    logger = TaskLogger("load")
    logger.addHandler(Keeper())
    logger.info("text")
    assert set(root.manager.loggerDict) == before
    assert logger.name == "processes.load"


def test_task_logger_gives_its_own_handlers_everything(root: logging.Logger) -> None:
    """Each from its own level on, whatever the application's levels are."""
    logger, keeper, choosy = TaskLogger("load"), Keeper(), Keeper(logging.WARNING)
    logger.addHandler(keeper)
    logger.addHandler(choosy)
    logger.debug("detail")
    logger.warning("loud")
    assert keeper.texts == ["detail", "loud"]
    assert choosy.texts == ["loud"]


@pytest.mark.parametrize(("level", "texts"), [(logging.INFO, ["info", "error"]), (logging.ERROR, ["error"])])
def test_task_logger_obeys_the_roots_level(root: logging.Logger, level: int, texts: list[str]) -> None:
    """C2: the application's handlers see what its level lets through, once."""
    keeper = Keeper()
    root.addHandler(keeper)
    root.setLevel(level)
    logger = TaskLogger("load")
    logger.info("info")
    logger.error("error")
    assert keeper.texts == texts


def test_task_logger_obeys_the_librarys_level(root: logging.Logger) -> None:
    """`processes` is the application's switch for all tasks."""
    keeper = Keeper()
    root.addHandler(keeper)
    logging.getLogger("processes").setLevel(logging.INFO)
    logger = TaskLogger("load")
    logger.info("info")
    logging.getLogger("processes").setLevel(logging.CRITICAL)
    logger.error("error")
    assert keeper.texts == ["info"]


def test_task_logger_keeps_to_itself_where_told(root: logging.Logger) -> None:
    """`propagate` means what it always means."""
    keeper = Keeper()
    root.addHandler(keeper)
    logger = TaskLogger("load")
    logger.propagate = False
    logger.error("error")
    assert keeper.texts == []


def test_task_logger_follows_logging_disable(root: logging.Logger) -> None:
    """Disabled and enabled again, as any logger."""
    logger, keeper = TaskLogger("load"), Keeper()
    logger.addHandler(keeper)
    logging.disable(logging.CRITICAL)
    try:
        logger.error("disabled")
    finally:
        logging.disable(logging.NOTSET)
    logger.error("enabled")
    assert keeper.texts == ["enabled"]


def test_task_logger_pickles_as_its_name(root: logging.Logger) -> None:
    """In another process it is the logger of that name; its handlers stay here."""
    again = pickle.loads(pickle.dumps(TaskLogger("load")))
    assert again.name == "processes.load"
    assert not isinstance(again, TaskLogger)


# ---- the file's format -----------------------------------------------------------------------------------------------

DATA = ErrorData(
    "load",
    "fetch",
    (1, "a"),
    {"k": None},
    ["clean", "ship"],
    "it failed",
    "Traceback (most recent call last):\n  ...\nValueError: it failed\n",
    {"x": "1", "y": "'two'"},
    "/a/b.py:12",
    "ValueError",
)


def line_and_rest(made: logging.LogRecord) -> tuple[str, list[str]]:
    """A formatted record: its first line after the time, and the others."""
    first, *rest = TaskFormatter().format(made).split("\n")
    return first[len("2026-01-02 03:04:05,678 - ") :], rest


def test_formatter_writes_one_line_for_a_plain_record() -> None:
    """Time, logger, level, message."""
    text = TaskFormatter().format(record("it is %s", "done", created=0.0, msecs=5.0))
    assert text.endswith(",005 - app - INFO - it is done")


def test_formatter_puts_the_facts_of_a_failure_before_its_traceback() -> None:
    """13.5: the message, an empty line, the facts, an empty line, the traceback; nothing after it."""
    made = failure_record(TaskLogger("load"), ValueError("it failed"), DATA, at=0.0)
    assert line_and_rest(made) == (
        "processes.load - ERROR - it failed",
        [
            "",
            "Function: fetch",
            "Args: (1, 'a')",
            "Kwargs: {'k': None}",
            "Downstream impact: clean, ship",
            "Traced vars location: /a/b.py:12",
            "Traced vars:",
            "  x = 1",
            "  y = 'two'",
            "",
            "Traceback (most recent call last):",
            "  ...",
            "ValueError: it failed",
        ],
    )


def test_formatter_shows_dashes_for_what_there_is_not() -> None:
    """No impact, no place, no locals."""
    data = ErrorData(function="fetch", exception="x", traceback_str="ValueError: x")
    assert line_and_rest(failure_record(TaskLogger("load"), ValueError("x"), data, at=0.0))[1] == [
        "",
        "Function: fetch",
        "Args: ()",
        "Kwargs: {}",
        "Downstream impact: -",
        "Traced vars location: -",
        "",
        "ValueError: x",
    ]


def test_failure_record_carries_the_nine_facts_and_the_exception() -> None:
    """13.6: `task_context` has exactly these keys; other records have none."""
    error = ValueError("it failed")
    made = failure_record(TaskLogger("load"), error, DATA, at=12.5)
    context = made.__dict__["task_context"]
    assert tuple(context) == CONTEXT_FIELDS
    assert (context["args"], context["kwargs"]) == ((1, "a"), {"k": None})
    assert made.exc_info is not None
    assert made.exc_info[1] is error
    assert (made.levelno, made.getMessage(), made.created) == (logging.ERROR, "it failed", 12.5)
    assert not hasattr(task_record(TaskLogger("load"), logging.INFO, "Starting load."), "task_context")


def test_failure_record_message_is_no_format() -> None:
    """An exception may say anything."""
    data = ErrorData(exception="100 % of %s and %d", traceback_str="x")
    made = failure_record(TaskLogger("load"), ValueError("x"), data, at=0.0)
    assert line_and_rest(made)[0].endswith("100 % of %s and %d")


def test_task_record_has_the_instant_it_is_given() -> None:
    """The parent tells of it when it has heard of it."""
    made = task_record(TaskLogger("load"), logging.INFO, "Starting load.", at=100.25)
    assert (made.created, made.msecs) == (100.25, 250)


# ---- the trip --------------------------------------------------------------------------------------------------------


def shipped(made: logging.LogRecord) -> logging.LogRecord:
    """The record as the parent gets it."""
    return restore(pack(made))


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("plain", ()),
        ("%s and %d", ("a", 2)),
        ("%s", ([1, 2],)),
        ("%(a)s", ({"a": 1},)),
        ("100 %", ()),
        ("100 %% of %s", (Path("/a"),)),
        (Path("/no/text"), ()),
        (ValueError("wrong"), ()),
    ],
    ids=repr,
)
def test_record_says_the_same_after_its_trip(message: object, args: tuple[object, ...]) -> None:
    """Scalars stay arguments, anything else becomes text."""
    made = record(message, *args)
    assert shipped(made).getMessage() == made.getMessage()


def test_record_keeps_scalar_arguments() -> None:
    """A handler may look at them."""
    again = shipped(record("%s %d %r", "a", 2, None))
    assert (again.msg, again.args) == ("%s %d %r", ("a", 2, None))


def test_record_keeps_where_and_when_it_was_made() -> None:
    """Name, level, line, process, thread and instant; extras too, as text where they are no scalars."""
    made = record("text", level=logging.WARNING, request=17, path=Path("/a"))
    again = shipped(made)
    for name in ("name", "levelno", "levelname", "lineno", "pathname", "process", "thread", "created", "msecs"):
        assert getattr(again, name) == getattr(made, name), name
    assert (again.__dict__["request"], again.__dict__["path"]) == (17, "/a")


def test_record_brings_its_exception_as_text() -> None:
    """The traceback is rendered where the exception lives."""
    with pytest.raises(ValueError, match="invalid") as caught:
        int("x")
    again = shipped(record("failed", exc_info=(ValueError, caught.value, caught.tb)))
    assert again.exc_info is None
    assert (again.exc_text or "").startswith("Traceback")
    assert (again.exc_text or "").endswith("invalid literal for int() with base 10: 'x'")


@pytest.mark.parametrize(
    ("message", "args", "extra", "cause"),
    [
        ("see %s", (Unprintable(),), {}, "LookupError"),
        ("see %d", ("no number",), {}, "TypeError"),
        ("too few %s %s", ("one",), {}, "TypeError"),
        ("text", (), {"extra": Unprintable()}, "LookupError"),
        (Unprintable(), (), {}, "LookupError"),
    ],
    ids=["argument", "format", "count", "extra", "message"],
)
def test_record_that_cannot_be_rendered_says_so(
    message: object, args: tuple[object, ...], extra: dict[str, Any], cause: str
) -> None:
    """The call that logged it does not fail, and the file shows that there was something."""
    sent: list[bytes] = []
    ShippingHandler(sent.append).handle(record(message, *args, **extra))
    (packed,) = sent
    again = restore(packed)
    assert f"could not be rendered: {cause}" in again.getMessage()
    assert (again.name, again.levelno) == ("app", logging.INFO)


# ---- delivery --------------------------------------------------------------------------------------------------------


def deliver_at_once(deliver: Callable[[Any], object], *what: object) -> None:
    """What the listener does, without its thread."""
    for each in what:
        deliver(each)


def test_destination_delivers_to_task_and_application(root: logging.Logger) -> None:
    """Once to the task's handlers by their level, once to the logger of the record's own name by its."""
    task, application = Keeper(), Keeper()
    logger = TaskLogger("load")
    logger.addHandler(task)
    root.addHandler(application)
    destination = Destination(logger, "load", deliver_at_once, 0.0)
    destination.remote_records([pack(record("info"))])
    destination.remote_records([pack(record("loud", level=logging.ERROR))])
    assert task.texts == ["info", "loud"]
    assert application.texts == ["loud"]
    logging.getLogger("app").setLevel(logging.INFO)
    destination.remote_records([pack(record("now wanted"))])
    assert application.texts == ["loud", "now wanted"]


def failing_record() -> logging.LogRecord:
    try:
        raise LookupError("gone")  # noqa: TRY301  as a task does
    except LookupError:
        return record("it failed", exc_info=sys.exc_info())


@pytest.mark.parametrize(
    "made",
    [
        record("plain"),
        record("%d of %s", 3, "änd"),
        record("two\nlines \udcff"),
        record("password='hunter2' of %s", "token='abc123'"),
        record("loud", level=logging.ERROR),
        record("low", level=logging.DEBUG),
        record("between", level=25),
        record("an extra", extra={"request": 5}),
        record("where", stack_info="Stack (most recent call last):"),
        failing_record(),
    ],
    ids=lambda made: made.msg.split()[0],
)
def test_record_makes_the_same_line_however_it_gets_there(made: logging.LogRecord, tmp_path: Path) -> None:
    """A plain one goes to a file that is alone without being made anew; another handler needs it whole."""
    lines = []
    for name, others in (("alone", []), ("in-company", [Keeper()])):
        handler = file_handler(str(tmp_path / name))
        logger = TaskLogger("load")
        for each in (handler, *others):
            logger.addHandler(each)
        Destination(logger, "load", deliver_at_once, 0.0).remote_records([pack(made)])
        handler.close()
        lines.append((tmp_path / name).read_bytes())
        assert all(len(other.texts) == 1 for other in others)
    assert lines[0] == lines[1]
    assert bool(lines[0]) == (made.levelno >= logging.INFO)
    assert b"hunter2" not in lines[0]


def test_record_of_a_file_whose_handler_was_changed_is_made_for_it(tmp_path: Path) -> None:
    """A formatter and a filter of the application's own get what they expect."""
    handler = file_handler(str(tmp_path / "log"))
    handler.setFormatter(logging.Formatter("%(funcName)s %(message)s"))
    handler.addFilter(lambda made: made.getMessage() != "no")
    logger = TaskLogger("load")
    logger.addHandler(handler)
    Destination(logger, "load", deliver_at_once, 0.0).remote_records([pack(record(text)) for text in ("yes", "no")])
    handler.close()
    assert (tmp_path / "log").read_text() == "None yes\n"


def test_listener_writes_all_in_order() -> None:
    """Everything that was queued before it was stopped."""
    keeper, listener = Keeper(), Listener()
    listener.start()
    for number in range(100):
        listener.put(keeper.emit, record(str(number)))
    listener.stop()
    listener.stop()
    assert keeper.texts == [str(number) for number in range(100)]
    assert listener.troubles.texts == []


def test_listener_survives_what_a_handler_raises() -> None:
    """It costs that record, and is kept once."""
    keeper, listener = Keeper(), Listener()

    def explode(_: logging.LogRecord) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    listener.start()
    for deliver in (explode, explode, keeper.emit):
        listener.put(deliver, record("text"))
    listener.stop()
    assert keeper.texts == ["text"]
    assert listener.troubles.texts == ["a log record could not be written: OSError: the disk is full (2 records)"]


def test_listener_writes_what_waits_in_one_call(
    tmp_path: Path, opened: Callable[[Path], logging.Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of the system cost more than all else; each file gets its own lines in order."""
    monkeypatch.setattr(logs, "_BATCH_S", 60.0)
    written: list[int] = []
    write = os.write

    def counting(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counting)
    listener, files = Listener(), [opened(tmp_path / name) for name in ("a.log", "b.log")]
    for number in range(100):
        listener.put(files[number % 2].handle, record(str(number)))
    listener.start()
    listener.stop()
    assert len(written) == 2
    for first, name in enumerate(("a.log", "b.log")):
        lines = (tmp_path / name).read_text().splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == [str(number) for number in range(first, 100, 2)]


def test_listener_goes_on_after_a_handler_that_exits() -> None:
    """A SystemExit in a handler does not end the thread that writes."""
    keeper, listener = Keeper(), Listener()

    def leave(_: logging.LogRecord) -> None:
        raise SystemExit

    listener.start()
    for deliver in (leave, keeper.emit):
        listener.put(deliver, record("text"))
    listener.stop()
    assert keeper.texts == ["text"]
    assert len(listener.troubles.texts) == 1


def test_troubles_are_said_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """An error's text may quote what was to be logged."""
    troubles = logs.Troubles()
    troubles.note_error(None, ValueError("postgres://me:hunter2@db is no number"))
    assert "hunter2" not in capsys.readouterr().err + "".join(troubles.texts)


def test_troubles_survive_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may have none; the report is told all the same."""
    monkeypatch.setattr(sys, "stderr", None)
    troubles = logs.Troubles()
    troubles.note_error(None, OSError("the disk is full"))
    assert troubles.texts == ["a log record could not be written: OSError: the disk is full"]


def test_formatter_tells_each_second_by_its_own_time() -> None:
    """The calendar is asked once a second, the milliseconds are each record's."""
    formatter, base = TaskFormatter(), logging.Formatter()
    for created, msecs in ((1.25, 250.0), (1.5, 500.0), (2.001, 1.0), (1.75, 750.0)):
        made = record("text", created=created, msecs=msecs)
        assert formatter.formatTime(made) == base.formatTime(made)


def test_formatter_tells_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """13.3: of the place where the program runs, not of Greenwich."""
    monkeypatch.setenv("TZ", "XYZ-05:45")
    time.tzset()
    try:
        assert TaskFormatter().formatTime(record("text", created=0.25, msecs=250.0)) == "1970-01-01 05:45:00,250"
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- sequential and thread mode --------------------------------------------------------------------------------------


def task_and_keeper() -> tuple[Destination, Keeper]:
    """Where a task logs, and what arrives there."""
    logger, keeper = TaskLogger("load"), Keeper(logging.INFO)
    logger.addHandler(keeper)
    return Destination(logger, "load", deliver_at_once, 0.0), keeper


def test_thread_capture_gives_a_task_what_its_thread_logs(root: logging.Logger) -> None:
    """From INFO on, though the root is at WARNING; what is logged outside of a task is nobody's."""
    destination, keeper = task_and_keeper()
    with thread_capture():
        logging.info("outside")
        with records_of(destination):
            logging.info("inside")
            logging.getLogger("app.part").warning("of a part")
            logging.debug("detail")
        logging.info("outside again")
    logging.warning("afterwards")
    assert keeper.texts == ["inside", "of a part"]


def test_thread_capture_keeps_from_the_application_what_its_level_stops(root: logging.Logger) -> None:
    """The root's level is lowered for the tasks' sake only."""
    application = Keeper()
    root.addHandler(application)
    with thread_capture():
        logging.info("quiet")
        logging.getLogger("app").info("quiet too")
        logging.warning("loud")
    assert application.texts == ["loud"]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_thread_capture_lets_pass_what_the_application_wants(root: logging.Logger, level: int) -> None:
    """A logger with a level of its own makes records that the root's level never stopped."""
    application = Keeper()
    root.addHandler(application)
    logging.getLogger("app").setLevel(level)
    logging.getLogger("app").info("before")
    with thread_capture():
        logging.getLogger("app").info("during")
        logging.getLogger("app.part").info("of a part")
    assert application.texts == ["before", "during", "of a part"]


def test_thread_capture_leaves_logging_as_it_was(root: logging.Logger) -> None:
    """Level, handlers and filters; overlapping runs end it with the last one."""
    application = Keeper()
    root.addHandler(application)
    handlers = list(root.handlers)
    first, second = thread_capture(), thread_capture()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert root.level == logging.INFO
    second.__exit__(None, None, None)
    assert (root.level, root.handlers, application.filters) == (logging.WARNING, handlers, [])


def test_thread_capture_adds_no_name_to_the_registry(root: logging.Logger) -> None:
    """A task's own lines pass the application's handlers without leaving a logger behind."""
    root.addHandler(Keeper())
    before = set(root.manager.loggerDict)
    with thread_capture():
        TaskLogger("load").info("Starting load.")
    assert set(root.manager.loggerDict) == before


def test_thread_capture_keeps_threads_apart(root: logging.Logger) -> None:
    """A record belongs to the task of the thread that made it."""
    from threading import Barrier, Thread

    both_run = Barrier(2, timeout=60)
    tasks = [task_and_keeper() for _ in range(2)]

    def work(number: int) -> None:
        with records_of(tasks[number][0]):
            both_run.wait()
            logging.info("of %d", number)
            both_run.wait()

    with thread_capture():
        threads = [Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [keeper.texts for _, keeper in tasks] == [["of 0"], ["of 1"]]


def test_records_of_may_be_nested() -> None:
    """A task that runs a process of its own gets its thread back."""
    outer, inner = task_and_keeper(), task_and_keeper()
    with records_of(outer[0]):
        with records_of(inner[0]):
            assert logs._here.destination is inner[0]
        assert logs._here.destination is outer[0]
    assert logs._here.destination is None


def test_snapshot_tells_what_differs_from_the_default(root: logging.Logger) -> None:
    """The root always; others where they have a level, do not propagate, or are disabled."""
    logging.getLogger("app.plain")
    logging.getLogger("app.level").setLevel(logging.DEBUG)
    logging.getLogger("app.alone").propagate = False
    loggers, disabled = launch.snapshot()
    assert loggers[""] == (logging.WARNING, True, False)
    assert loggers["app.level"] == (logging.DEBUG, True, False)
    assert loggers["app.alone"] == (logging.NOTSET, False, False)
    assert "app.plain" not in loggers
    assert disabled == 0


def test_snapshot_is_the_same_before_logging_is_loaded() -> None:
    """It is not loaded for that: a run starts its first process before."""
    script = (
        "import sys; from processes import launch; early = launch.snapshot(); assert 'logging' not in sys.modules; "
        "import logging; assert launch.snapshot() == early, early"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
