"""What goes wrong with logs costs lines at worst, never the run, and is said once: on stderr and in the report."""

import contextlib
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Process, ProcessExecutionReport, Task, TaskDependency
from support.logs import WAYS, Keeper, parallel, told

FULL = "/dev/full"  # Every write to it fails as on a full disk; full(4).

every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def root_is_at_warning() -> Iterator[None]:
    """Logging as a program has it that never set it up, whatever pytest did to it."""
    before = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    assert logging.root.level == logging.WARNING
    logging.root.setLevel(before)


class Broken(logging.Handler):
    """Raises in `emit`."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ZeroDivisionError


class BrokenFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise ZeroDivisionError


class Swallowing(logging.StreamHandler):  # type: ignore[type-arg]  # its stream is never written to
    """Raises when it formats, and leaves that to `handleError`, as the standard library's handlers do."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(BrokenFormatter())


def say_three_things() -> None:
    for word in ("one", "two", "three"):
        logging.getLogger("etl").info(word)


def warn() -> None:
    logging.getLogger("etl").warning("beware")


def run(way: str, *tasks: Task) -> ProcessExecutionReport:
    """Run tasks that all succeed, and close their logs."""
    with Process(list(tasks)) as process:
        report = process.run(parallel(way))
    assert not report.errored, report
    return report


def warning_of(report: ProcessExecutionReport) -> str:
    """The only one there is."""
    (warning,) = report.warnings
    return warning


FIVE = [
    ("INFO", "Starting a."),
    *[("INFO", word) for word in ("one", "two", "three")],
    ("INFO", "Finished a."),
]


# ---- the file --------------------------------------------------------------------------------------------------------


@every_way
def test_full_disk_costs_the_lines(way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The run goes on, another file has its lines, and it is said once with the number of lines it cost."""
    path = tmp_path / "b.log"
    report = run(way, Task("a", say_three_things, FULL), Task("b", say_three_things, path))
    assert "No space left on device: '/dev/full' (5 records)" in warning_of(report)
    assert capfd.readouterr().err.count("No space left on device") == 1
    assert [message for _, message in told(path)] == ["Starting b.", "one", "two", "three", "Finished b."]


@every_way
def test_folder_that_goes_during_a_run_costs_the_lines(
    way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once it is there again, the next run's lines are written. (One that is gone before is found before the run.)"""
    folder = tmp_path / "logs"
    folder.mkdir()
    task = Task("a", say_three_things, folder / "a.log", dependencies=[TaskDependency("remove")])
    report = run(way, task, Task("remove", shutil.rmtree, args=(str(folder),)))
    assert "No such file or directory" in warning_of(report)
    assert capfd.readouterr().err.count("No such file or directory") == 1
    folder.mkdir()
    assert run(way, task, Task("remove", len, args=("",))).warnings == ()
    assert told(folder / "a.log") == FIVE


@every_way
def test_folder_in_the_place_of_the_file_costs_the_lines(
    way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody can write there; once the folder is gone, lines are written again."""
    path = tmp_path / "a.log"
    task = Task("a", say_three_things, path)
    path.unlink()
    path.mkdir()
    assert "Is a directory" in warning_of(run(way, task))
    assert capfd.readouterr().err.count("Is a directory") == 1
    path.rmdir()
    assert run(way, task).warnings == ()
    assert told(path) == FIVE


@every_way
def test_formatter_that_raises_costs_the_lines(way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Where it raised is told."""
    keeper = Keeper()
    task = Task("a", say_three_things, tmp_path / "a.log")
    task.logger.handlers[0].setFormatter(BrokenFormatter())
    task.logger.addHandler(keeper)
    warning = warning_of(run(way, task))
    assert "ZeroDivisionError" in warning
    assert f"{os.path.basename(__file__)}:" in warning
    assert warning.endswith("(5 records)")
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1
    assert keeper.messages() == FIVE
    assert (tmp_path / "a.log").read_text() == ""


@pytest.mark.parametrize("way", ["sequential", "threads"])
def test_full_disk_is_told_where_the_task_itself_writes(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Also where a record does not come by the listener: the task logs to its own logger, in this process."""
    task = Task("a", len, FULL)
    logger = task.logger

    def log_to_own() -> None:
        logger.warning("to my own")

    task.func = log_to_own
    assert "No space left on device: '/dev/full' (3 records)" in warning_of(run(way, task))
    assert capfd.readouterr().err.count("No space left on device") == 1


# ---- handlers of the user's ------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("kind", [Broken, Swallowing])
def test_handler_on_the_tasks_logger_that_raises_costs_nobody_else_a_record(
    way: str, kind: type[logging.Handler], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those before and behind it get all; it is said once, also where the handler swallows what it raised."""
    keeper = Keeper()
    task = Task("a", say_three_things, tmp_path / "a.log")
    task.logger.addHandler(kind())
    task.logger.addHandler(keeper)
    warning = warning_of(run(way, task))
    assert "ZeroDivisionError" in warning
    assert warning.endswith("(5 records)")
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1
    assert told(tmp_path / "a.log") == keeper.messages() == FIVE


@pytest.fixture
def broken_at_etl() -> Iterator[type[logging.Handler]]:
    """The logger `etl` has a handler that swallows what it raises."""
    handler = Swallowing()
    logging.getLogger("etl").addHandler(handler)
    yield Swallowing
    logging.getLogger("etl").removeHandler(handler)


@every_way
@pytest.mark.usefixtures("broken_at_etl")
def test_handler_of_the_application_that_swallows_is_told_of(
    way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And handlers above it get the record."""
    keeper = Keeper()
    logging.root.addHandler(keeper)
    try:
        report = run(way, Task("a", warn, tmp_path / "a.log"))
    finally:
        logging.root.removeHandler(keeper)
    assert "ZeroDivisionError" in warning_of(report)
    assert capfd.readouterr().err.count("ZeroDivisionError") == 1
    assert keeper.messages() == [("WARNING", "beware")]
    assert ("WARNING", "beware") in told(tmp_path / "a.log")


@pytest.mark.parametrize("method", WAYS[2:])
def test_handler_of_the_application_that_raises_costs_nobody_else_a_record(method: str, tmp_path: Path) -> None:
    """In children's mode. (In this process it raises in the task's own call, as in any program.)"""
    broken, keeper = Broken(), Keeper()
    logging.getLogger("etl").addHandler(broken)
    logging.root.addHandler(keeper)
    try:
        report = run(method, Task("a", warn, tmp_path / "a.log"))
    finally:
        logging.getLogger("etl").removeHandler(broken)
        logging.root.removeHandler(keeper)
    assert "ZeroDivisionError" in warning_of(report)
    assert keeper.messages() == [("WARNING", "beware")]


def test_handlers_are_heard_only_while_there_is_a_run(mode: str | None) -> None:
    """What logging does with a handler's troubles is as it was before."""
    before = logging.Handler.handleError
    with Process([Task("a", say_three_things, None)]) as process:
        process.tasks[0].logger.addHandler(Swallowing())
        process.run(mode)
    assert logging.Handler.handleError is before


def test_silence_is_kept_where_logging_is_told_to_be_silent(
    mode: str | None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`logging.raiseExceptions` is the switch for stderr; the report is told."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with Process([Task("a", say_three_things, FULL)]) as process:
        report = process.run(mode)
    assert "No space left" in warning_of(report)
    assert capfd.readouterr().err == ""


# ---- records ---------------------------------------------------------------------------------------------------------


class Refuses:
    """Can be neither pickled nor shown."""

    def __reduce__(self) -> str:
        raise ZeroDivisionError

    def __repr__(self) -> str:
        raise ZeroDivisionError


def log_what_cannot_be_pickled() -> None:
    logger = logging.getLogger("etl")
    logger.info("a lock: %s, a lambda: %s", threading.Lock(), lambda: None, extra={"lock": threading.Lock()})


def log_what_does_not_fit() -> None:
    for _ in range(3):
        logging.getLogger("etl").info("%d rows", "no number")
    logging.getLogger("etl").info("%s", Refuses())
    logging.getLogger("etl").info("afterwards")


def log_surrogates() -> None:
    logging.getLogger("etl.\udc80").info("caf\udce9 %s", "\udcff", extra={"caf\udce9": "\udce9"})


def fail_with_a_surrogate() -> None:
    raise ValueError("caf\udce9")


@every_way
def test_arguments_that_cannot_be_pickled_are_text(way: str, tmp_path: Path) -> None:
    """Nothing is lost, and there is nothing to tell."""
    path = tmp_path / "a.log"
    report = run(way, Task("a", log_what_cannot_be_pickled, path))
    assert report.warnings == ()
    assert told(path)[1][1].startswith("a lock: <unlocked _thread.lock object at")


@every_way
def test_records_that_cannot_be_rendered_are_told_of(
    way: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each has a line that says so; of each kind of error the first one is said."""
    path = tmp_path / "a.log"
    report = run(way, Task("a", log_what_does_not_fit, path))
    assert [message for _, message in told(path)] == [
        "Starting a.",
        *["(this record could not be rendered: TypeError) %d rows"] * 3,
        "(this record could not be rendered: ZeroDivisionError) %s",
        "afterwards",
        "Finished a.",
    ]
    assert [warning.partition(" (")[0].split(": ")[:2] for warning in report.warnings] == [
        ["a log record could not be rendered", "TypeError"],
        ["a log record could not be rendered", "ZeroDivisionError"],
    ]
    assert report.warnings[0].endswith("(3 records)")
    assert f"{os.path.basename(__file__)}:" in report.warnings[0]
    assert capfd.readouterr().err.count("could not be rendered") == 2


@every_way
def test_surrogates_are_escaped(way: str, tmp_path: Path) -> None:
    """In a logger's name, a message, an argument, an extra, and in the text of a failure."""
    path = tmp_path / "a.log"
    keeper = Keeper()
    tasks = [Task("a", log_surrogates, path), Task("b", fail_with_a_surrogate, path)]
    tasks[0].logger.addHandler(keeper)
    with Process(tasks) as process:
        report = process.run(parallel(way))
    assert report.warnings == ()
    text = path.read_text(encoding="utf-8")
    assert " - etl.\\udc80 - INFO - caf\\udce9 \\udcff\n" in text
    assert text.endswith("\nValueError: caf\\udce9\n") or " - processes.b - ERROR - caf\\udce9\n" in text
    assert keeper.records[1].__dict__["caf\udce9"] == "\udce9"


def log_a_page_without_descriptors() -> None:
    """A record that is too long for the channel, while no descriptor is left for the way around it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        logging.getLogger("etl").info("x" * 1_000_000)
        logging.getLogger("etl").info("afterwards")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("method", WAYS[2:])
def test_record_that_cannot_be_sent_is_cut(method: str, tmp_path: Path) -> None:
    """The task's call returns, and the line says what it was."""
    path = tmp_path / "a.log"
    report = run(method, Task("a", log_a_page_without_descriptors, path))
    assert "OSError" in warning_of(report)
    lines = [message for _, message in told(path)]
    assert lines[1].startswith("(this record could not be rendered: OSError) xxx")
    assert lines[2:] == ["afterwards", "Finished a."]


def log_a_page() -> None:
    logging.getLogger("etl").info("x" * 1_000_000)


@every_way
def test_long_record_is_whole(way: str, tmp_path: Path) -> None:
    """A megabyte in one line."""
    path = tmp_path / "a.log"
    assert run(way, Task("a", log_a_page, path)).warnings == ()
    assert [len(message) for _, message in told(path)] == [len("Starting a."), 1_000_000, len("Finished a.")]


# ---- where text is ASCII ---------------------------------------------------------------------------------------------

C_LOCALE = """
import logging, sys
from processes import Process, ProcessPool, Task

def say():
    logging.getLogger("etl").info("caf\\u00e9 \\udc80")

def fail():
    raise ValueError("caf\\u00e9")

if __name__ == "__main__":
    assert open(sys.argv[2]).encoding.lower().replace("-", "") in ("ascii", "ansi_x3.41968", "646"), "no C locale"
    parallel = {"sequential": None, "threads": "threads"}.get(sys.argv[1], sys.argv[1])
    if parallel == sys.argv[1] and parallel != "threads":
        parallel = ProcessPool(2, start_method=parallel)
    tasks = [Task("a", say, sys.argv[2]), Task("b", fail, sys.argv[2])]
    with Process(tasks) as process:
        report = process.run(parallel)
    assert report.warnings == (), report.warnings
    print(len(report.successes), len(report.errored))
"""


@every_way
def test_c_locale_costs_nothing(way: str, tmp_path: Path) -> None:
    """The file is UTF-8 whatever the environment says."""
    script, path = tmp_path / "program.py", tmp_path / "a.log"
    script.write_text(C_LOCALE)
    path.touch()
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("PYTHONIOENCODING", None)
    command = [sys.executable, str(script), way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.stdout, done.stderr, done.returncode) == ("1 1\n", "", 0)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert any(line.endswith("etl - INFO - café \\udc80") for line in lines)
    assert any(line.endswith("ERROR - café") for line in lines)


# ---- where the disk fills up -----------------------------------------------------------------------------------------


def test_line_that_was_torn_is_ended_before_the_next_one(tmp_path: Path) -> None:
    """A disk that fills up in the midst of a line, and has room again in the next run. Source: setrlimit(2), FSIZE."""
    path = tmp_path / "a.log"
    task = Task("a", say_three_things, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.ExitStack() as undo:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))  # Within the first line.
        undo.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        with Process([task]) as process:
            report = process.run()
    assert "File too large" in warning_of(report)
    assert path.stat().st_size == 30
    assert run("sequential", task).warnings == ()
    assert told(path) == FIVE
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6
