"""What a task's logfile holds after a run, and which records reach whom, in every mode."""

import datetime as dt
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import Process, Task, TaskDependency
from support.gate import Gate, pass_gate
from support.logs import LINE, Keeper, told

CONTEXT_KEYS = {
    "task_name",
    "function",
    "args",
    "kwargs",
    "downstream_impact",
    "exception",
    "traceback_str",
    "traced_vars",
    "traced_vars_location",
}


@pytest.fixture(autouse=True)
def root_is_at_warning() -> Iterator[None]:
    """Logging as a program has it that never set it up, whatever pytest did to it."""
    before = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    assert logging.root.level == logging.WARNING
    logging.root.setLevel(before)


@pytest.fixture
def at_root() -> Iterator[Keeper]:
    """What reaches the application's own handler."""
    keeper = Keeper()
    logging.root.addHandler(keeper)
    yield keeper
    assert keeper.filters == []
    logging.root.removeHandler(keeper)


@pytest.fixture
def at_etl() -> Iterator[Keeper]:
    """What reaches a handler on one logger of the application's."""
    keeper = Keeper()
    logger = logging.getLogger("etl")
    logger.addHandler(keeper)
    yield keeper
    logger.removeHandler(keeper)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


# ---- what the tasks do ----------------------------------------------------------------------------------------------


def fail(path: str, *, limit: int) -> None:
    rows = limit + 1
    raise ValueError(f"{rows} rows in {path}")


def fail_in_two_lines() -> None:
    raise ValueError("first\nsecond")


def raise_it(error: BaseException) -> None:
    raise error


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def raise_unprintable() -> None:
    raise Unprintable


def fail_with_a_cause() -> None:
    try:
        int("inner")
    except ValueError as error:
        raise RuntimeError("outer") from error


def fail_first(path: str) -> None:
    with open(path, "a+", encoding="utf-8") as file:
        file.write("attempt\n")
        file.seek(0)
        made = len(file.readlines())
    if made <= 2:
        raise ConnectionError(f"try {made}")


def log_at_all_levels() -> None:
    for name in (None, "etl", "etl.rows"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, "%s at %d", name, level)


def log_and_fail() -> None:
    logging.warning("last words")
    raise ValueError("no such luck")


def log_an_exception() -> None:
    try:
        int("k")
    except ValueError:
        logging.getLogger("etl").exception("caught %r", {"a": 1}, extra={"shard": 7})


def log_number(number: int) -> None:
    for line in range(50):
        logging.getLogger("etl").warning("task %d line %d", number, line)


# ---- reading --------------------------------------------------------------------------------------------------------


def run(mode: str | None, *tasks: Task) -> None:
    """Run the tasks and close their logs."""
    with Process(list(tasks)) as process:
        process.run(mode)


# ---- the library's own lines ----------------------------------------------------------------------------------------


def test_log_of_a_success_has_exactly_two_lines(mode: str | None, tmp_path: Path) -> None:
    """13.4: one when it starts, one when it has finished, in the format of 7.0.4."""
    path = tmp_path / "a.log"
    before = dt.datetime.now()  # noqa: DTZ005  the log has local time without zone
    run(mode, Task("Fetch", len, path, ("1",)))
    lines = path.read_text(encoding="utf-8").splitlines()
    matches = [LINE.fullmatch(line) for line in lines]
    assert [match and match.groups()[2:] for match in matches] == [
        ("INFO", "Starting fetch."),
        ("INFO", "Finished fetch."),
    ]
    for match in matches:
        assert match
        assert match[2].startswith("processes.fetch")
        at = dt.datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007  as above
        margin = dt.timedelta(seconds=1)
        assert before - margin <= at <= dt.datetime.now() + margin  # noqa: DTZ005  as above


def test_log_of_a_failure_ends_with_its_traceback(mode: str | None, tmp_path: Path) -> None:
    """13.5: the second record has the message, the facts, and the traceback last."""
    path = tmp_path / "a.log"
    run(
        mode,
        Task("a", fail, path, ("in.csv",), {"limit": 2}),
        Task("b", len, dependencies=[TaskDependency("a")]),
        Task("c", len, dependencies=[TaskDependency("b")]),
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    assert told(path) == [("INFO", "Starting a."), ("ERROR", "3 rows in in.csv")]
    assert lines[1].endswith(" - ERROR - 3 rows in in.csv")
    location = lines.index(next(line for line in lines if line.startswith("Traced vars location: ")))
    assert lines[2:location] == [
        "",
        "Function: fail",
        "Args: ('in.csv',)",
        "Kwargs: {'limit': 2}",
        "Downstream impact: b, c",
    ]
    assert re.fullmatch(r"Traced vars location: \S*test_task_logs.py:\d+", lines[location])
    assert lines[location + 1 : location + 7] == [
        "Traced vars:",
        "  path = 'in.csv'",
        "  limit = 2",
        "  rows = 3",
        "",
        "Traceback (most recent call last):",
    ]
    assert lines[-1] == "ValueError: 3 rows in in.csv"
    assert lines[-2].lstrip(" ~^") == "" or "raise ValueError" in lines[-2]


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("mine"), "KeyboardInterrupt: mine"),
        (KeyError("k"), "KeyError: 'k'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_log_of_any_exception_is_a_failure(mode: str | None, tmp_path: Path, error: BaseException, last: str) -> None:
    """A5: one ERROR record, whose text is that of the exception, and the traceback last."""
    path = tmp_path / "a.log"
    run(mode, Task("a", raise_it, path, (error,)))
    assert told(path) == [("INFO", "Starting a."), ("ERROR", str(error))]
    assert path.read_text(encoding="utf-8").splitlines()[-1] == last


def test_log_of_an_exception_without_a_text_is_a_failure(mode: str | None, tmp_path: Path) -> None:
    """A7: the record is there, and says what was wrong with the exception."""
    path = tmp_path / "a.log"
    run(mode, Task("a", raise_unprintable, path))
    [(_, started), (level, text)] = told(path)
    assert (started, level) == ("Starting a.", "ERROR")
    assert "raised ZeroDivisionError" in text


def test_log_of_a_failure_without_dependants_has_a_dash(mode: str | None, tmp_path: Path) -> None:
    """13.5: nothing downstream is a dash."""
    path = tmp_path / "a.log"
    run(mode, Task("a", fail_with_a_cause, path))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "Downstream impact: -" in lines
    assert "ValueError: invalid literal for int() with base 10: 'inner'" in lines
    assert lines[-1] == "RuntimeError: outer"


def test_log_of_a_failure_in_two_lines_stays_whole(mode: str | None, tmp_path: Path) -> None:
    """A message with a line break is written as it is."""
    path = tmp_path / "a.log"
    run(mode, Task("a", fail_in_two_lines, path))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1].endswith(" - ERROR - first")
    assert lines[2:4] == ["second", ""]
    assert lines[-2:] == ["ValueError: first", "second"]


def test_log_tells_each_attempt_that_is_repeated(mode: str | None, tmp_path: Path) -> None:
    """11.6: a warning for each failure that is tried again; one start, one end."""
    path = tmp_path / "a.log"
    run(mode, Task("a", fail_first, path, (str(tmp_path / "attempts"),), retries=3))
    assert told(path) == [
        ("INFO", "Starting a."),
        ("WARNING", "Attempt 1/4 failed: try 1. Retrying..."),
        ("WARNING", "Attempt 2/4 failed: try 2. Retrying..."),
        ("INFO", "Finished a."),
    ]


def test_log_of_the_last_attempt_is_the_failure(mode: str | None, tmp_path: Path) -> None:
    """13.5: warnings stand between start and failure; there is one ERROR record."""
    path = tmp_path / "a.log"
    run(mode, Task("a", fail_first, path, (str(tmp_path / "attempts"),), retries=1))
    assert told(path) == [
        ("INFO", "Starting a."),
        ("WARNING", "Attempt 1/2 failed: try 1. Retrying..."),
        ("ERROR", "try 2"),
    ]


def test_log_of_a_timeout_is_a_failure(mode: str | None, tmp_path: Path, gate: Gate) -> None:
    """An attempt that passed its time-out is told as any other failure, and ends with the message."""
    path = tmp_path / "a.log"
    run(mode, Task("a", pass_gate, path, (gate.address,), timeout=0.05))
    own = [line for line in told(path) if line[0] != "WARNING"]
    assert own == [("INFO", "Starting a."), ("ERROR", "Task 'a' timed out after 0.05s")]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert "Traced vars location: -" in lines  # it raised nothing: there is no frame
    assert "Traced vars:" not in lines
    assert lines[-1].endswith("Task 'a' timed out after 0.05s")


def test_log_of_a_skipped_task_stays_empty(mode: str | None, tmp_path: Path) -> None:
    """9.5, C11: the file is there, with nothing in it; nor does anybody who listens get anything."""
    path, keeper = tmp_path / "b.log", Keeper()
    skipped = Task("b", len, path, dependencies=[TaskDependency("a")])
    skipped.logger.addHandler(keeper)
    run(mode, Task("a", fail_in_two_lines), skipped)
    assert path.read_text(encoding="utf-8") == ""
    assert keeper.records == []


def test_log_shared_by_tasks_has_whole_lines_of_each(mode: str | None, tmp_path: Path) -> None:
    """One file for many tasks: no line is torn, lost or doubled, and each task's are in order."""
    path = tmp_path / "all.log"
    run(mode, *(Task(f"t{number}", log_number, path, (number,)) for number in range(6)))
    lines = told(path)
    assert len(lines) == 6 * 52
    for number in range(6):
        own = [message for _, message in lines if re.search(rf"(t|task ){number}\b", message)]
        assert own == [
            f"Starting t{number}.",
            *(f"task {number} line {line}" for line in range(50)),
            f"Finished t{number}.",
        ]


def test_log_shared_sequentially_keeps_tasks_apart(tmp_path: Path) -> None:
    """13.4: sequential tasks follow each other in the file."""
    path = tmp_path / "all.log"
    run(None, Task("a", len, path, ("1",)), Task("b", len, path, ("1",)))
    assert [message for _, message in told(path)] == ["Starting a.", "Finished a.", "Starting b.", "Finished b."]


def test_log_shared_by_tasks_outlives_one_of_them(mode: str | None, tmp_path: Path) -> None:
    """13.2: each has one handler for the file; when one task is removed the others still write there."""
    path = tmp_path / "all.log"
    tasks = [Task(name, len, path, ("1",)) for name in "ab"]
    assert [len(task.logger.handlers) for task in tasks] == [1, 1]
    with Process(tasks) as process:
        process.run(mode)
        process.remove_task("a")
        assert [len(task.logger.handlers) for task in tasks] == [0, 1]
        process.run(mode)
    assert sorted(message for _, message in told(path)) == [
        "Finished a.",
        *["Finished b."] * 2,
        "Starting a.",
        *["Starting b."] * 2,
    ]


def test_log_goes_on_in_a_second_process_of_the_same_tasks(mode: str | None, tmp_path: Path) -> None:
    """C3: tasks whose logs were closed log again; failures too."""
    tasks = [Task("a", len, tmp_path / "a.log", ("1",)), Task("b", log_and_fail, tmp_path / "b.log")]
    for _ in range(2):
        run(mode, *tasks)
    assert told(tmp_path / "a.log") == [("INFO", "Starting a."), ("INFO", "Finished a.")] * 2
    assert [level for level, _ in told(tmp_path / "b.log")] == ["INFO", "WARNING", "ERROR"] * 2


def test_log_of_a_running_task_says_that_it_started(concurrent_mode: str, tmp_path: Path) -> None:
    """The first line is there while the task runs."""
    path = tmp_path / "a.log"
    with Gate() as gate, ThreadPoolExecutor(1) as pool, gate, Gate() as second, second:
        tasks = [
            Task("a", pass_gate, path, (gate.address,)),
            Task("b", pass_gate, None, (second.address,), dependencies=[TaskDependency("c")]),
            Task("c", len, tmp_path / "c.log", ("1",)),
        ]
        future = pool.submit(run, concurrent_mode, *tasks)
        gate.child_arrives()
        second.child_arrives()
        until = time.monotonic() + 30.0  # a fail-safe: the line comes within milliseconds
        while not told(path) and time.monotonic() < until:
            time.sleep(0.005)
        assert told(path) == [("INFO", "Starting a.")]
        gate.close()
        second.close()
        future.result()


def test_log_is_opened_anew_when_it_was_moved(mode: str | None, tmp_path: Path) -> None:
    """C12: after a rotation the next run writes to a new file."""
    path = tmp_path / "a.log"
    process = Process([Task("a", len, path, ("1",))])
    with process:
        process.run(mode)
        path.rename(tmp_path / "old.log")
        process.run(mode)
    assert told(path) == told(tmp_path / "old.log") == [("INFO", "Starting a."), ("INFO", "Finished a.")]


# ---- records of the task's own --------------------------------------------------------------------------------------


def test_log_has_what_any_logger_says_in_the_task(mode: str | None, tmp_path: Path) -> None:
    """C1: INFO and above of any logger is in the task's file, even where the root is at WARNING."""
    run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"), Task("b", len, tmp_path / "b.log", ("1",)))
    assert told(tmp_path / "a.log") == [
        ("INFO", "Starting a."),
        *(
            (level, f"{name} at {number}")
            for name in (None, "etl", "etl.rows")
            for level, number in (("INFO", 20), ("WARNING", 30))
        ),
        ("INFO", "Finished a."),
    ]
    assert told(tmp_path / "b.log") == [("INFO", "Starting b."), ("INFO", "Finished b.")]


def test_log_of_a_task_with_a_timeout_has_its_records(mode: str | None, tmp_path: Path) -> None:
    """C1: also where the attempt runs in a thread of its own."""
    run(mode, Task("a", log_and_fail, tmp_path / "a.log", timeout=50.0))
    assert [message for _, message in told(tmp_path / "a.log")] == ["Starting a.", "last words", "no such luck"]


def test_log_names_the_logger_of_a_record(mode: str | None, tmp_path: Path) -> None:
    """A record's line has the name of the logger that made it."""
    path = tmp_path / "a.log"
    run(mode, Task("a", log_at_all_levels, path))
    names = [match[2] for line in path.read_text(encoding="utf-8").splitlines() if (match := LINE.fullmatch(line))]
    assert names[1:-1] == ["root", "root", "etl", "etl", "etl.rows", "etl.rows"]


def test_log_has_a_record_of_the_tasks_own_logger_once(mode: str | None, tmp_path: Path) -> None:
    """A function that logs to `task.logger` finds its line in the file, once."""
    task = Task("a", len, tmp_path / "a.log")
    logger = task.logger

    def log_to_own() -> None:
        logger.warning("to my own")

    task.func = log_to_own
    run(mode, task)
    assert [message for _, message in told(tmp_path / "a.log")].count("to my own") == 1


def test_records_reach_the_application_once_at_its_level(mode: str | None, tmp_path: Path, at_root: Keeper) -> None:
    """What a task logs reaches the root's handlers once, subject to the levels; lines of our own do as well."""
    run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"))
    assert at_root.messages() == [("WARNING", f"{name} at 30") for name in (None, "etl", "etl.rows")]


def test_records_reach_the_application_without_a_logfile(mode: str | None, at_root: Keeper) -> None:
    """A task without a log of its own logs to the application all the same."""
    run(mode, Task("a", log_at_all_levels))
    assert at_root.messages() == [("WARNING", f"{name} at 30") for name in (None, "etl", "etl.rows")]


def test_records_reach_the_logger_of_their_name(
    mode: str | None, tmp_path: Path, at_root: Keeper, at_etl: Keeper
) -> None:
    """A handler on a logger gets its records and those below it, once, at the level in effect; not others."""
    run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"))
    assert at_etl.messages() == [("WARNING", "etl at 30"), ("WARNING", "etl.rows at 30")]


def test_records_of_a_logger_with_a_lower_level_reach_the_root(
    mode: str | None, tmp_path: Path, at_root: Keeper, at_etl: Keeper
) -> None:
    """A logger that is set to INFO hands INFO records to the root's handlers, though the root is at WARNING."""
    logging.getLogger("etl").setLevel(logging.INFO)
    run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"))
    expected = [
        ("INFO", "etl at 20"),
        ("WARNING", "etl at 30"),
        ("INFO", "etl.rows at 20"),
        ("WARNING", "etl.rows at 30"),
    ]
    assert at_etl.messages() == expected
    assert at_root.messages() == [("WARNING", "None at 30"), *expected]


def test_records_of_a_logger_with_a_higher_level_reach_nobody(
    mode: str | None, tmp_path: Path, at_root: Keeper
) -> None:
    """A logger's own level holds in the task as it does outside."""
    logging.getLogger("etl").setLevel(logging.ERROR)
    try:
        run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"))
    finally:
        logging.getLogger("etl").setLevel(logging.NOTSET)
    assert [message for _, message in told(tmp_path / "a.log")[1:-1]] == ["None at 20", "None at 30"]
    assert at_root.messages() == [("WARNING", "None at 30")]


def test_records_of_a_logger_that_does_not_propagate_stay_there(
    mode: str | None, tmp_path: Path, at_root: Keeper, at_etl: Keeper
) -> None:
    """`propagate = False` keeps a logger's records from the root's handlers."""
    logging.getLogger("etl").propagate = False
    run(mode, Task("a", log_at_all_levels, tmp_path / "a.log"))
    assert at_etl.messages() == [("WARNING", "etl at 30"), ("WARNING", "etl.rows at 30")]
    assert at_root.messages() == [("WARNING", "None at 30")]


def test_records_keep_exception_text_and_extras(mode: str | None, tmp_path: Path, at_root: Keeper) -> None:
    """A record arrives with its message, its exception and its extras."""
    path = tmp_path / "a.log"
    run(mode, Task("a", log_an_exception, path))
    [record] = at_root.records
    assert (record.name, record.levelname, record.getMessage()) == ("etl", "ERROR", "caught {'a': 1}")
    assert record.funcName == "log_an_exception"
    assert getattr(record, "shard", None) == 7
    assert "int() with base 10: 'k'" in logging.Formatter().format(record)
    assert "int() with base 10: 'k'" in path.read_text(encoding="utf-8")


def test_lines_of_the_library_obey_the_roots_level(
    mode: str | None, tmp_path: Path, at_root: Keeper, at_etl: Keeper
) -> None:
    """C2: at WARNING the application sees no "Starting", but it sees retries and failures."""
    run(
        mode,
        Task("a", len, tmp_path / "a.log", ("1",)),
        Task("b", fail_first, tmp_path / "b.log", (str(tmp_path / "attempts"),), retries=1),
    )
    assert at_root.messages() == [("WARNING", "Attempt 1/2 failed: try 1. Retrying..."), ("ERROR", "try 2")]


def test_lines_of_the_library_reach_an_application_at_info(mode: str | None, at_root: Keeper) -> None:
    """C2: at INFO the application sees them, with a logfile or without."""
    logging.root.setLevel(logging.INFO)
    try:
        run(mode, Task("a", len, None, ("1",)))
    finally:
        logging.root.setLevel(logging.WARNING)
    assert at_root.messages() == [("INFO", "Starting a."), ("INFO", "Finished a.")]


def test_lines_of_the_library_obey_its_loggers_level(mode: str | None, at_root: Keeper) -> None:
    """C2: a level on the logger `processes` switches them off."""
    logging.root.setLevel(logging.INFO)
    logging.getLogger("processes").setLevel(logging.CRITICAL)
    try:
        run(mode, Task("a", fail_in_two_lines))
    finally:
        logging.root.setLevel(logging.WARNING)
        logging.getLogger("processes").setLevel(logging.NOTSET)
    assert at_root.messages() == []


def test_lines_of_the_library_leave_no_name_in_the_registry(mode: str | None, tmp_path: Path, at_root: Keeper) -> None:
    """0.10: after a run that logged, logging knows no logger of the task's name (B1, B2)."""
    name = f"registry-{mode}"
    run(mode, Task(name, fail_first, tmp_path / "a.log", (str(tmp_path / "attempts"),), retries=1))
    assert f"processes.{name}" not in logging.root.manager.loggerDict


# ---- handlers on task.logger ----------------------------------------------------------------------------------------


def test_handler_on_the_tasks_logger_gets_the_failure_once(mode: str | None, tmp_path: Path) -> None:
    """13.6: one ERROR record, with exc_info and exactly the nine facts."""
    keeper = Keeper()
    task = Task("a", fail, tmp_path / "a.log", ("in.csv",), {"limit": 2})
    task.logger.addHandler(keeper)
    with Process([task, Task("b", len, dependencies=[TaskDependency("a")])]) as process:
        report = process.run(mode)
    [record] = [record for record in keeper.records if record.levelno >= logging.ERROR]
    context = record.__dict__["task_context"]
    assert type(context) is dict
    assert set(context) == CONTEXT_KEYS
    assert (context["task_name"], context["function"]) == ("a", "fail")
    assert (context["args"], context["kwargs"]) == (("in.csv",), {"limit": 2})
    assert context["downstream_impact"] == ["b"]
    assert context["exception"] == record.getMessage() == "3 rows in in.csv"
    assert context["traced_vars"] == {"path": "'in.csv'", "limit": "2", "rows": "3"}
    error = report.entries["a"].error
    assert error is not None
    assert context == error.context()
    assert "ValueError: 3 rows in in.csv" in logging.Formatter().format(record)
    assert not hasattr(record, "post_traceback_html_body")
    assert not any("task_context" in other.__dict__ for other in keeper.records if other is not record)


def test_failure_record_carries_exc_info(mode: str | None) -> None:
    """13.6: also where the exception was raised in a child; then it stands for it."""
    keeper = Keeper()
    task = Task("a", fail_in_two_lines)
    task.logger.addHandler(keeper)
    run(mode, task)
    [record] = [record for record in keeper.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    assert record.exc_info[0] is not None
    assert isinstance(record.exc_info[1], record.exc_info[0])
    assert "first\nsecond" in str(record.exc_info[1])


def test_handler_on_the_tasks_logger_gets_what_the_task_logs(mode: str | None) -> None:
    """It receives the task's records, other loggers' included, once each, without a logfile too."""
    keeper = Keeper()
    task = Task("a", log_at_all_levels)
    task.logger.addHandler(keeper)
    run(mode, task, Task("b", log_and_fail))
    assert keeper.messages() == [
        ("INFO", "Starting a."),
        *(
            (level, f"{name} at {number}")
            for name in (None, "etl", "etl.rows")
            for level, number in (("INFO", 20), ("WARNING", 30))
        ),
        ("INFO", "Finished a."),
    ]


def test_handler_on_the_tasks_logger_keeps_its_level(mode: str | None) -> None:
    """A handler's own level holds."""
    keeper = Keeper()
    keeper.setLevel(logging.WARNING)
    task = Task("a", log_at_all_levels)
    task.logger.addHandler(keeper)
    run(mode, task)
    assert {level for level, _ in keeper.messages()} == {"WARNING"}
    assert len(keeper.records) == 3


def test_handler_that_raises_costs_its_record(mode: str | None, tmp_path: Path) -> None:
    """Whatever a handler of the user's raises, the run goes on, and the file has its lines."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    task = Task("a", len, tmp_path / "a.log", ("1",))
    task.logger.addHandler(Broken())
    with Process([task]) as process:
        report = process.run(mode)
    assert list(report.successes) == ["a"]
    assert told(tmp_path / "a.log") == [("INFO", "Starting a."), ("INFO", "Finished a.")]
    assert [warning for warning in report.warnings if "ZeroDivisionError" in warning]


class NoRepr:
    def __repr__(self) -> str:
        raise ZeroDivisionError


def refuse(*args: object) -> None:
    raise ValueError("no such luck")


def test_log_of_a_failure_survives_an_argument_that_cannot_be_shown(mode: str | None, tmp_path: Path) -> None:
    """13.5, C5: the argument is told as unprintable, the rest of the record is there."""
    path = tmp_path / "a.log"
    run(mode, Task("a", refuse, path, (NoRepr(),)))
    assert told(path) == [("INFO", "Starting a."), ("ERROR", "no such luck")]
    assert path.read_text(encoding="utf-8").splitlines()[-1] == "ValueError: no such luck"


def test_log_of_a_failure_has_the_arguments_of_the_call(mode: str | None, tmp_path: Path) -> None:
    """0.5, C10: those that the function was really called with."""
    path = tmp_path / "b.log"
    run(mode, Task("a", len, args=("22",)), Task("b", refuse, path, ("own",), dependencies=[TaskDependency("a", True)]))
    assert "Args: ('own', 2)" in path.read_text(encoding="utf-8").splitlines()


def test_log_of_a_soft_timeout_names_the_mode_that_is_hard(local_mode: str | None, tmp_path: Path, gate: Gate) -> None:
    """0.3: where the thread is left behind, the log says so, before the failure's own record."""
    path = tmp_path / "a.log"
    run(local_mode, Task("a", pass_gate, path, (gate.address,), timeout=0.05))
    assert [level for level, _ in told(path)] == ["INFO", "WARNING", "ERROR"]
    assert 'parallel="processes"' in told(path)[1][1]
