"""Records arrive as without processes, in every mode and start method: once, whole, in order, to the end."""

import enum
import logging
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import Process, ProcessExecutionReport, Task
from support.gate import Gate, pass_gate
from support.logs import WAYS, Keeper, parallel, told
from support.pools import START_METHODS, every_method

every_way = pytest.mark.parametrize("way", WAYS)

#: A level of the application's own, between INFO and WARNING.
NOTICE = 25


class Level(enum.IntEnum):
    """Levels as some programs have them."""

    LOUD = 35


@pytest.fixture(autouse=True)
def logging_is_as_it_was() -> Iterator[None]:
    """Logging as a program has it that never set it up, whatever pytest did to it; restored afterwards."""
    level = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
    logging.root.setLevel(level)
    for name in ("etl", "etl.rows", "off", "alone"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.NOTSET)
        logger.disabled, logger.propagate, logger.handlers = False, True, []


@pytest.fixture
def keep() -> Iterator[Callable[[str], Keeper]]:
    """Puts a Keeper on a logger, until the test ends."""
    placed = []

    def place(name: str) -> Keeper:
        keeper = Keeper()
        logging.getLogger(name).addHandler(keeper)
        placed.append((logging.getLogger(name), keeper))
        return keeper

    yield place
    for logger, keeper in placed:
        logger.removeHandler(keeper)


def run(way: str, *tasks: Task) -> ProcessExecutionReport:
    """Run tasks and close their logs."""
    with Process(list(tasks)) as process:
        return process.run(parallel(way))


def log_everywhere() -> None:
    for name in ("", "etl", "etl.rows", "off", "alone"):
        for level in (logging.DEBUG, logging.INFO, NOTICE, logging.WARNING, Level.LOUD, logging.CRITICAL):
            logging.getLogger(name).log(level, "%s %d", name, level)


def of(name: str, *levels: int) -> list[str]:
    return [f"{name} {level:d}" for level in levels]


# ---- levels ----------------------------------------------------------------------------------------------------------


@every_way
def test_levels_and_switches_are_the_parents(way: str, tmp_path: Path, keep: Callable[[str], Keeper]) -> None:
    """Levels, `disabled` and `propagate` of every logger decide for handlers and file as they do without processes."""
    logging.getLogger("etl").setLevel(logging.DEBUG)
    logging.getLogger("etl.rows").setLevel(Level.LOUD)
    logging.getLogger("off").disabled = True
    logging.getLogger("alone").propagate = False
    logging.getLogger("alone").setLevel(NOTICE)
    at_root, at_etl, at_alone = keep(""), keep("etl"), keep("alone")
    path = tmp_path / "a.log"
    assert run(way, Task("a", log_everywhere, path)).warnings == ()
    of_etl = [*of("etl", 10, 20, 25, 30, 35, 50), *of("etl.rows", 35, 50)]
    assert [text for _, text in at_etl.messages()] == of_etl
    assert [text for _, text in at_root.messages()] == [*of("", 30, 35, 50), *of_etl]
    assert [text for _, text in at_alone.messages()] == of("alone", 25, 30, 35, 50)
    assert [text for _, text in told(path)] == [
        "Starting a.",
        *of("", 20, 25, 30, 35, 50),
        *of("etl", 20, 25, 30, 35, 50),
        *of("etl.rows", 35, 50),
        *of("alone", 25, 30, 35, 50),
        "Finished a.",
    ]


@every_way
def test_logging_disable_is_the_parents(way: str, tmp_path: Path, keep: Callable[[str], Keeper]) -> None:
    """What is disabled is not made, lines of the library's own included."""
    at_root, path = keep(""), tmp_path / "a.log"
    logging.disable(logging.WARNING)
    run(way, Task("a", log_everywhere, path))
    expected = [text for name in ("", "etl", "etl.rows", "off", "alone") for text in of(name, 35, 50)]
    assert [text for _, text in at_root.messages()] == expected
    assert [text for _, text in told(path)] == expected
    logging.disable(logging.NOTSET)
    run(way, Task("b", len, tmp_path / "b.log", ("1",)))
    assert told(tmp_path / "b.log") == [("INFO", "Starting b."), ("INFO", "Finished b.")]


@every_way
def test_names_of_levels_are_the_parents(way: str, tmp_path: Path) -> None:
    """Also in a child that never heard of them; a level may be of an enum."""
    before = logging.getLevelName(NOTICE)
    logging.addLevelName(NOTICE, "NOTICE")
    try:
        run(way, Task("a", log_everywhere, tmp_path / "a.log"))
    finally:
        logging.addLevelName(NOTICE, before)
    text = (tmp_path / "a.log").read_text()
    assert " - etl - NOTICE - etl 25\n" in text
    assert " - etl - Level 35 - etl 35\n" in text


@every_way
def test_tasks_own_logger_has_its_level(way: str, tmp_path: Path) -> None:
    """A handler on `task.logger` that wants DEBUG gets it, whatever the root's level; from a child too."""
    keeper = Keeper()
    task = Task("a", len, tmp_path / "a.log")
    logger = task.logger
    logger.addHandler(keeper)

    def log_to_own() -> None:
        logger.debug("a detail")
        logger.info("a fact")

    task.func = log_to_own
    run(way, task)
    assert [text for _, text in keeper.messages()] == ["Starting a.", "a detail", "a fact", "Finished a."]
    assert [text for _, text in told(tmp_path / "a.log")] == ["Starting a.", "a fact", "Finished a."]


@every_way
def test_record_has_all_that_it_had_where_it_was_made(way: str, keep: Callable[[str], Keeper]) -> None:
    """Whatever attribute a formatter of the user's asks for."""
    logging.getLogger("etl").setLevel(logging.DEBUG)
    keeper = keep("etl")
    run(way, Task("a", log_everywhere))
    record = keeper.records[0]
    assert record.__dict__.keys() - {"message", "asctime"} == logging.makeLogRecord({}).__dict__.keys()
    assert (record.pathname, record.filename, record.module) == (__file__, os.path.basename(__file__), __name__[-17:])
    assert (record.funcName, record.msg, record.args) == ("log_everywhere", "%s %d", ("etl", 10))
    assert (record.levelno, record.levelname, record.exc_info, record.stack_info) == (10, "DEBUG", None, None)
    assert (record.process == os.getpid()) == (way not in START_METHODS)
    assert abs(record.created - time.time()) < 600
    assert record.lineno == log_everywhere.__code__.co_firstlineno + 3


class Counted(logging.LogRecord):
    """Records of an application that has a class of its own for them."""

    color = "red"


@every_way
def test_record_is_of_the_applications_class(way: str, keep: Callable[[str], Keeper]) -> None:
    """As `logging.setLogRecordFactory` says in the parent."""
    logging.setLogRecordFactory(Counted)
    keeper = keep("etl")
    try:
        run(way, Task("a", log_everywhere))
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert {type(record) for record in keeper.records} == {Counted}
    assert [text for _, text in keeper.messages()] == [*of("etl", 30, 35, 50), *of("etl.rows", 30, 35, 50)]


# ---- to the end ------------------------------------------------------------------------------------------------------

#: Lines of each of two tasks. benchmarks/bench_logs.py does it with 50,000.
LINES = 10_000


def log_lines(number: int, count: int = LINES) -> None:
    logger = logging.getLogger("etl.rows")
    for line in range(count):
        logger.info("t%d line %d", number, line)


def log_lines_and_die(number: int) -> None:
    log_lines(number)
    os.kill(os.getpid(), signal.SIGKILL)


def count_lines(path: Path, tasks: int) -> list[int]:
    """How many lines of each task the file has; fails where one was lost, torn, doubled or misplaced."""
    counts = [0] * tasks
    for _, text in told(path):
        if found := re.fullmatch(r"t(\d+) line (\d+)", text):
            task = int(found[1])
            assert int(found[2]) == counts[task], text
            counts[task] += 1
    return counts


@every_way
def test_many_lines_of_all_workers_are_all_there(way: str, tmp_path: Path) -> None:
    """Into one file: none lost, none torn, none doubled, each task's in order."""
    path = tmp_path / "all.log"
    report = run(way, *(Task(f"t{number}", log_lines, path, (number,)) for number in range(2)))
    assert report.warnings == ()
    assert count_lines(path, 2) == [LINES, LINES]
    assert [text for _, text in told(path)].count("Finished t0.") == 1


@every_method
def test_many_lines_of_workers_that_are_killed_are_all_there(method: str, tmp_path: Path) -> None:
    """Up to the last one before each died, and the report shows the last ones."""
    path = tmp_path / "all.log"
    report = run(method, *(Task(f"t{number}", log_lines_and_die, path, (number,)) for number in range(2)))
    assert count_lines(path, 2) == [LINES, LINES]
    for number, entry in enumerate(report.entries.values()):
        assert entry.error is not None
        assert entry.error.last_log_lines[-1] == f"INFO - t{number} line {LINES - 1}"
        texts = [text for _, text in told(path)]
        end = texts.index(f"t{number} line {LINES - 1}")
        assert any("SIGKILL" in text for text in texts[end:]), "the failure is told behind the last words"


def flood() -> None:
    while True:
        logging.getLogger("etl.rows").info("t0 line %d", next(_lines))


_lines = iter(range(10**9))


@every_method
def test_flood_does_not_keep_a_timeout_waiting(method: str, tmp_path: Path) -> None:
    """A task that logs without end is killed at its time-out, and what it had logged is whole."""
    path = tmp_path / "all.log"
    report = run(method, Task("t0", flood, path, timeout=0.5))
    assert "timed out" in str(report.entries["t0"].error)
    count_lines(path, 1)


class OpensGate(logging.Handler):
    """Lets a task through a gate when it gets a certain message."""

    def __init__(self, gate: Gate, message: str) -> None:
        super().__init__()
        self._gate = gate
        self._message = message

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._message:
            self._gate.child_arrives().let_go()


def log_and_wait(address: bytes) -> None:
    spend(0.05)  # The parent has had its look at an attempt that has just begun, and waits for news.
    for number in range(5):
        logging.getLogger("etl.rows").info("line %d", number)
        spend(0.0003)  # It has heard of the first line before the last is there.
    pass_gate(address)


def spend(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@every_method
def test_last_line_of_several_arrives_while_the_task_goes_on(method: str, gate: Gate) -> None:
    """A child does not tell of each; the parent looks for those that it was not told of."""
    task = Task("t", log_and_wait, args=(gate.address,), timeout=60)
    task.logger.addHandler(OpensGate(gate, "line 4"))
    assert run(method, task).entries["t"].error is None


def log_short_and_long() -> None:
    for number in range(200):
        length = (1, 50_000, 70_000, 300_000)[number % 4]
        logging.getLogger("etl.rows").info("t0 line %d%s", number, f"\n{'x' * length}" if number % 3 else "")


@every_method
def test_lines_of_any_length_stay_in_order(method: str, tmp_path: Path) -> None:
    """Long ones take another way than short ones."""
    path = tmp_path / "all.log"
    run(method, Task("t0", log_short_and_long, path))
    assert count_lines(path, 1) == [200]


#: So many alarms interrupt a task that logs.
ALARMS = 50


def log_while_alarms_log() -> tuple[int, int]:
    """Log without end until ALARMS alarms have, whose handler logs too; returns how many lines of each there were."""
    counts = [0, 0]

    def log(which: int) -> None:
        logging.getLogger("etl.rows").info("t%d line %d", which, counts[which])
        counts[which] += 1

    def alarm(*_: object) -> None:
        log(1)
        signal.setitimer(signal.ITIMER_REAL, 0.0007)  # Only now: no alarm interrupts another.

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0007)
    while counts[1] < ALARMS:
        log(0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return counts[0], counts[1]


@every_method
def test_line_of_a_signals_handler_is_whole_and_spoils_no_other(method: str, tmp_path: Path) -> None:
    """It may come at any instruction of a logging call that it interrupts."""
    path = tmp_path / "all.log"
    report = run(method, Task("t", log_while_alarms_log, path, timeout=60))
    assert count_lines(path, 2) == list(report.entries["t"].result)


def log_on_both_sides() -> None:
    pid = os.fork()
    logger = logging.getLogger("etl.rows")
    for number in range(500):
        logger.info("t%d line %d", pid == 0, number)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


@every_method
def test_lines_of_a_fork_and_its_parent_are_all_there(method: str, tmp_path: Path) -> None:
    """Both log at the same time."""
    path = tmp_path / "all.log"
    report = run(method, Task("t", log_on_both_sides, path))
    assert (report.entries["t"].error, report.warnings) == (None, ())
    assert count_lines(path, 2) == [500, 500]


# ---- files -----------------------------------------------------------------------------------------------------------


class CountsDescriptors(logging.Handler):
    """Counts, at each record, the descriptors of this process that are open on a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)
        self.most = 0

    def emit(self, record: logging.LogRecord) -> None:
        targets = []
        for name in os.listdir("/proc/self/fd"):
            try:
                targets.append(os.readlink(f"/proc/self/fd/{name}"))
            except FileNotFoundError:  # That of the listing.
                continue
        self.most = max(self.most, targets.count(self._path))


@every_way
def test_shared_file_is_open_once(way: str, tmp_path: Path) -> None:
    """However many tasks write to it."""
    path = tmp_path / "all.log"
    counter = CountsDescriptors(path)
    tasks = [Task(f"t{number}", log_lines, path, (number, 20)) for number in range(20)]
    tasks[-1].logger.addHandler(counter)
    with Process(tasks) as process:
        process.run(parallel(way))  # Its last lines may be written when the counter has seen all.
        assert count_lines(path, 20) == [20] * 20
        process.run(parallel(way))
    assert counter.most == 1


def log_around_a_gate(address: bytes) -> None:
    logging.getLogger("etl").info("before")
    pass_gate(address)
    logging.getLogger("etl").info("after")


def rotate(path: Path) -> Path:
    return path.rename(path.with_suffix(".old"))


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """As an editor does."""
    path.with_suffix(".new").write_text("theirs\n")
    path.with_suffix(".new").rename(path)


# Not fork, for which there must be one thread only.
@pytest.mark.parametrize("way", ["threads", "forkserver", "spawn"])
@pytest.mark.parametrize("change", [rotate, remove, replace])
def test_file_is_followed_during_a_run(way: str, change: Callable[[Path], object], tmp_path: Path, gate: Gate) -> None:
    """After a rotation, a removal, a replacement, lines go to the file that has the name."""
    path = tmp_path / "a.log"
    with ThreadPoolExecutor(1) as here:
        future = here.submit(run, way, Task("a", log_around_a_gate, path, (gate.address,)))
        arrived = gate.child_arrives()
        until = time.monotonic() + 30.0  # a fail-safe: the line comes within milliseconds
        while ("INFO", "before") not in told(path) and time.monotonic() < until:
            time.sleep(0.005)
        change(path)
        arrived.let_go()
        report = future.result()
    assert report.warnings == ()
    assert told(path) == [("INFO", "after"), ("INFO", "Finished a.")]
    assert path.read_text().startswith("theirs\n") == (change is replace)
    if change is rotate:
        assert told(path.with_suffix(".old")) == [("INFO", "Starting a."), ("INFO", "before")]
