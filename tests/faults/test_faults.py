"""
Nothing takes a batch down: a table of faults, each of which fails its own task and nothing else.

The next scenario is one line: a deed in DEEDS is tried in every place, a place in PLACES with every deed; what fits
neither is a row of ROWS. Rows are run one by one by the usual start method, and all of a kind together by every one; on
the oldest Python all rows, on the others a tenth of them.
"""

import concurrent.futures
import signal
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import Task, TaskDependency
from support import faults, stubborn
from support.batches import FOLDER, Fails, Row, died, hold, is_chosen
from support.faults import MIB, Deed, Likeness, Zeros
from support.pools import START_METHODS, every_method, failures, pool, results, run

# ---- deeds in all places ---------------------------------------------------------------------------------------------

TIMEOUT_S = 0.5
timed_out = Fails("TaskTimeoutError", f"timed out after {TIMEOUT_S}s")

#: A deed, and how a task fails that does it in its call.
DEEDS: dict[str, tuple[Deed, Fails]] = {
    "raises": (faults.raise_value_error, Fails("ValueError", "the deed")),
    "raises-base": (faults.raise_base, Fails("OfNoKind", "the deed")),
    "interrupts": (faults.raise_interrupt, Fails("KeyboardInterrupt", "the deed")),
    "sys-exits": (faults.leave_by_sys_exit, Fails("SystemExit", "the deed")),
    "recurses": (faults.overflow_python_stack, Fails("RecursionError", "recursion")),
    "is-killed": (faults.be_killed, died("SIGKILL")),
    "is-terminated": (faults.be_terminated, died("SIGTERM")),
    "kills-group": (faults.kill_own_group, died("SIGKILL")),
    "segfaults": (faults.segfault, died("SIGSEGV")),
    "aborts": (faults.abort, died("SIGABRT")),
    "bus-error": (faults.read_past_end_of_file, died("SIGBUS")),
    "c-stack": (faults.overflow_c_stack, died("SIGSEGV")),
    "exits-0": (faults.exit_with_0, died("exited with code 0")),
    "exits-7": (faults.exit_with_7, died("exited with code 7")),
    "hangs": (faults.sleep_on, timed_out),
}


#: What a deed raises that is an error, and what it raises at all.
ERRORS = ("ValueError", "RecursionError")
RAISED = (*ERRORS, "OfNoKind", "KeyboardInterrupt", "SystemExit")


def as_in_call(expected: Fails) -> object:
    return expected


def harmless_if(kinds: Sequence[str], result: object) -> Callable[[Fails], object]:
    """What is raised there costs the task nothing."""
    return lambda expected: result if expected.kind in kinds else expected


def as_result(expected: Fails) -> object:
    """What is raised there says that the result cannot travel."""
    return Fails("UnpicklableError", expected.text) if expected.kind in RAISED else expected


@dataclass(frozen=True)
class Place:
    """Where a deed is done: a row of it, and what it comes to there."""

    row: Callable[[Deed], dict[str, Any]]
    outcome: Callable[[Fails], object] = as_in_call
    #: What the report warns of where the deed does not fail its task.
    warns: str = ""

    def of(self, name: str, deed: Deed, in_call: Fails) -> Row:
        outcome = self.outcome(in_call)
        warns = "" if outcome is in_call else self.warns.format(in_call.kind)
        options = {"timeout": TIMEOUT_S} if in_call is timed_out else {}
        return Row(name, expected=outcome, options=options, warns=warns, **self.row(deed))


def in_(func: Callable[[Deed], object]) -> Callable[[Deed], dict[str, Any]]:
    return lambda deed: {"func": func, "args": (deed,)}


PLACES: dict[str, Place] = {
    "function-loaded": Place(lambda deed: {"func": faults.Loads(deed)}),
    "argument-loaded": Place(lambda deed: {"func": faults.take, "args": (faults.Loads(deed),)}),
    "input-loaded": Place(lambda deed: {"func": faults.take, "source": (faults.return_loading_twice, (deed,))}),
    "call": Place(in_(faults.call)),
    "coroutine": Place(in_(faults.do_in_coroutine)),
    "thread": Place(in_(faults.do_in_thread), harmless_if(RAISED, "joined")),
    "logged": Place(in_(faults.log_showing), harmless_if(ERRORS, "logged"), "could not be rendered: {}"),
    "result-pickled": Place(in_(faults.return_dumping), as_result),
    "large-result-pickled": Place(in_(faults.return_dumping_after_much), as_result),
    "result-loaded": Place(in_(faults.return_loading), as_result),
    "result-freed": Place(in_(faults.return_freeing), harmless_if(RAISED, "pickled")),
    "error-shown": Place(in_(faults.fail_showing), lambda _: Fails("Wounded")),
    "local-shown": Place(in_(faults.fail_beside), lambda _: Fails("ValueError", "the cause")),
    "fork": Place(in_(faults.do_in_fork), lambda expected: expected if expected is timed_out else "waited"),
}


@pytest.mark.parametrize("place", PLACES)
@every_method
def test_deed_fails_its_own_task(method: str, place: str, tmp_path: Path) -> None:
    """All deeds side by side, in one place of their tasks' way."""
    rows = [
        PLACES[place].of(f"{name}-{place}", deed, in_call)
        for name, (deed, in_call) in DEEDS.items()
        if is_chosen(f"{name}-{place}")
    ]
    if not rows:
        pytest.skip("another Python's share")
    hold(rows, method, tmp_path)


# ---- what is of its own kind -----------------------------------------------------------------------------------------


def stubborn_row(name: str) -> Row:
    func, processes = stubborn.STUBBORN[name]
    return Row(f"stubborn-{name}", func, timed_out, (FOLDER,), {"timeout": TIMEOUT_S}, noting=processes)


def hangs(func: Callable[..., object], *args: object, noting: int = 0) -> Row:
    return Row(func.__name__, func, timed_out, args, {"timeout": TIMEOUT_S}, noting=noting)


def signalled(name: str, expected: object, *numbers: signal.Signals) -> Row:
    """By somebody else, who is innocent too."""
    beside = [(faults.send_signal, (FOLDER, *numbers), "sent")]
    return Row(name, faults.wait_after_noting, expected, (FOLDER,), beside=beside)


def raises(kind: type[BaseException], *args: object) -> Row:
    name = f"raises-{kind.__module__}.{kind.__name__}".lower()
    return Row(name, faults.raise_, Fails(kind.__name__, str(kind(*args))), (kind, *args))


def greedy(func: Callable[..., object], *args: object, noting: int = 0) -> Row:
    options = {"memory_limit": "100MiB", "timeout": 60}
    return Row(func.__name__, func, Fails("MemoryLimitError", "memory limit of 100 MiB"), args, options, noting=noting)


def works(func: Callable[..., object], result: object, *args: object) -> Row:
    """No fault at all, though others fail at it."""
    return Row("-".join([func.__name__, *map(str, args)]), func, result, args)


FACTORIALS = [1, 1, 2, 6, 24, 120]
INNER = {"dies": "processes.WorkerCrashedError", "hangs": "processes.TaskTimeoutError", "fine": "120"}

_TIMEOUTS = [
    *map(stubborn_row, stubborn.STUBBORN),
    hangs(faults.match_for_ever),
    hangs(faults.sum_for_ever),
    hangs(faults.wait_for_program),
    hangs(faults.retry_for_ever),
    hangs(faults.beget_for_ever, FOLDER, noting=1),
]
_SIGNALS = [
    Row("exits-alone", faults.exit_while_children_hold_on, died("exited with code 7")),
    signalled("killed-by-another", died("SIGKILL"), signal.SIGKILL),
    signalled("terminated-by-another", died("SIGTERM"), signal.SIGTERM),
    signalled("interrupted-by-another", Fails("KeyboardInterrupt"), signal.SIGINT),
    signalled("stopped-and-continued", "let on", signal.SIGSTOP, signal.SIGCONT),
    signalled("stopped-and-killed", died("SIGKILL"), signal.SIGSTOP, signal.SIGKILL),
]
_MEMORY = [
    greedy(faults.fill_and_wait, 300 * MIB),
    greedy(faults.fill_slowly, MIB),
    greedy(faults.fill_in_children, FOLDER, 3, 60 * MIB, noting=4),
    Row("wants-too-much", faults.want_too_much, Fails("MemoryError")),
    Row("own-limit", faults.want_more_than_own_limit, Fails("MemoryError"), (4096 * MIB,)),
]
_VALUES = [
    Row("returns-much", bytes, Zeros(500_000_000), (500_000_000,)),
    Row("deep-result", faults.nest, Fails("UnpicklableError", "recursion"), (10_000,)),
    Row("returns-error", faults.return_exception, Likeness("ValueError('not raised')"), (ValueError, "not raised")),
    Row("returns-system-exit", faults.return_exception, Likeness("SystemExit(3)"), (SystemExit, 3)),
    Row(
        "returns-group",
        faults.return_exception,
        Likeness("ExceptionGroup('', [OSError(5, '5')])"),
        (ExceptionGroup, "", [OSError(5, "5")]),
    ),
    Row("returns-large-number", faults.return_power, 10**5000, (10, 5000)),
    raises(TimeoutError, "of its own"),
    raises(CancelledError, "of its own"),
    raises(concurrent.futures.CancelledError, "of its own"),
    raises(BrokenProcessPool, "of its own"),
    raises(MemoryError, "of its own"),
    raises(EOFError, "of its own"),
    raises(BrokenPipeError, 32, "of its own"),
    Row("raises-group", faults.raise_group, Fails("BaseExceptionGroup", "several (2 sub-exceptions)")),
    Row("warning-is-error", faults.warn_as_error, Fails("DeprecationWarning", "the warning")),
]
_COMPANY = [
    *(works(faults.use_multiprocessing, FACTORIALS, inner) for inner in START_METHODS),
    *(works(faults.use_executor, FACTORIALS, inner) for inner in START_METHODS),
    *(works(faults.use_processes, INNER, inner) for inner in START_METHODS),
    works(faults.leave_executor_broken, "BrokenProcessPool"),
    works(faults.use_threads, FACTORIALS),
    works(faults.use_asyncio, [number + factorial for number, factorial in enumerate(FACTORIALS)]),
    works(faults.use_subprocess, "a\nb\nc\n"),
    works(faults.use_blas, 300.0, 300),
]


#: By kind.
ROWS = {"time-outs": _TIMEOUTS, "signals": _SIGNALS, "memory": _MEMORY, "values": _VALUES, "company": _COMPANY}


@pytest.mark.parametrize(
    "row", [row for kind in ROWS.values() for row in kind if is_chosen(row.name)], ids=lambda row: row.name
)
def test_fault_fails_its_own_task(row: Row, tmp_path: Path) -> None:
    """Each by itself."""
    hold([row], START_METHODS[0], tmp_path)


@pytest.mark.parametrize("kind", ROWS)
@every_method
def test_faults_side_by_side_fail_their_own_tasks(method: str, kind: str, tmp_path: Path) -> None:
    """All of a kind in one run."""
    rows = [row for row in ROWS[kind] if is_chosen(row.name)]
    if not rows:
        pytest.skip("another Python's share")
    hold(rows, method, tmp_path)


# ---- values in bulk, and values that are slow ------------------------------------------------------------------------


@every_method
def test_arguments_of_64_mb_in_bulk(method: str) -> None:
    """Twenty of them arrive, and the program holds but some of them a second time."""
    block = bytearray(b"x") * (64 * MIB)
    before = psutil.Process().memory_info()
    tasks = [Task(f"t{n}", faults.count_x, args=(block,), timeout=60) for n in range(20)]
    report = run(tasks, pool(method))
    after = psutil.Process().memory_info()
    assert results(report) == {f"t{n}": 64 * MIB for n in range(20)}
    assert after.rss - after.shared < before.rss - before.shared + 100 * MIB


@every_method
def test_result_that_loads_for_ever_holds_nobody_up(method: str) -> None:
    """Nobody but who reads it waits for it: not the neighbour's time-out, nor the run."""
    tasks = [
        Task("slow", faults.return_loading_twice, args=(faults.sleep_on,)),
        Task(
            "takes", faults.take, timeout=1, dependencies=[TaskDependency("slow", use_result_as_additional_args=True)]
        ),
        Task("hangs", faults.sleep_on, timeout=0.5),
    ]
    report = run(tasks, pool(method))
    assert list(report.successes) == ["slow"]
    assert failures(report) == {"takes": "TaskTimeoutError", "hangs": "TaskTimeoutError"}
    assert 0.5 <= report.entries["hangs"].elapsed_seconds < 5
