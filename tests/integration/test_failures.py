"""Whatever a task raises or returns arrives as something readable: one failed task, no lost peer."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from processes import (
    ErrorData,
    Process,
    ProcessExecutionReport,
    RemoteTaskError,
    Task,
    TaskDependency,
    TaskFailedError,
    TaskStatus,
    WorkerCrashedError,
)
from support.gate import Gate, pass_gate
from support.pools import every_method, pool, run

SECRET = "hunter2"  # noqa: S105  it is to be found nowhere


def run_beside_others(func: Callable[..., object], mode: str | None = "processes", **options: Any) -> ErrorData:  # noqa: ANN401  a Task's own
    """The failure of one task; its neighbours before and after it are there."""
    report = Process(
        [Task("before", len, args=("1",)), Task("a", func, **options), Task("after", len, args=("22",))]
    ).run(mode, 1)
    assert {name: entry.result for name, entry in report.successes.items()} == {"before": 1, "after": 2}
    assert list(report.errored) == ["a"]
    error = report.entries["a"].error
    assert error is not None
    return error


class TwoArguments(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class HoldsALock(Exception):
    def __init__(self) -> None:
        import threading

        super().__init__("locked")
        self.lock = threading.Lock()


class ReduceRaises(Exception):
    def __reduce__(self) -> NoReturn:
        raise ZeroDivisionError


class StrRaises(Exception):
    def __str__(self) -> NoReturn:
        raise ZeroDivisionError


class StrExits(Exception):
    def __str__(self) -> str:
        if os.getpid():
            os._exit(3)
        return ""


class ReprRaises(Exception):
    def __repr__(self) -> NoReturn:
        raise ZeroDivisionError


class LoadRaises(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return divmod, (1, 0)


class LoadExits(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def raise_(kind: type[BaseException], *args: object) -> NoReturn:
    raise kind(*args)


def raise_local_class() -> NoReturn:
    class Local(Exception):
        pass

    raise Local("of this call")


def raise_large() -> NoReturn:
    raise ValueError("x" * 50_000_000)


def raise_circle() -> NoReturn:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


@pytest.mark.parametrize(
    ("func", "args", "kind", "text"),
    [
        (raise_, (TwoArguments, 1, 2), "TwoArguments", "1 and 2"),
        (raise_, (HoldsALock,), "HoldsALock", "locked"),
        (raise_, (ReduceRaises, "reduced"), "ReduceRaises", "reduced"),
        (raise_, (StrRaises,), "StrRaises", "raised ZeroDivisionError"),
        (raise_, (StrExits,), "StrExits", "its text is not known"),
        (raise_, (ReprRaises, "shown"), "ReprRaises", "shown"),
        (raise_, (LoadRaises, "loaded"), "LoadRaises", "loaded"),
        (raise_, (LoadExits, "left"), "LoadExits", "left"),
        (raise_local_class, (), "Local", "of this call"),
        (raise_large, (), "ValueError", "xxx"),
        (raise_circle, (), "ValueError", "first"),
        (raise_, (SystemExit, 3), "SystemExit", "3"),
        (raise_, (KeyboardInterrupt,), "KeyboardInterrupt", ""),
        (raise_, (GeneratorExit,), "GeneratorExit", ""),
        (raise_, (StopIteration, 1), "StopIteration", "1"),
        (raise_, (BaseException, "bare"), "BaseException", "bare"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_exception_of_any_kind_is_told(
    func: Callable[..., object], args: tuple[Any, ...], kind: str, text: str
) -> None:
    """Type and text are right, though it can neither be pickled nor shown nor loaded; the child's end costs nobody."""
    error = run_beside_others(func, args=args)
    assert error.exception_type.rpartition(".")[2] == kind
    assert text in error.exception
    assert len(error.exception) < 200_000
    assert error.traceback_str


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return divmod, (1, 0)


class Exits:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


def counted() -> Iterator[int]:
    return (number for number in range(3))


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("func", "args", "kind", "text"),
    [
        (Unloadable, (), "UnpicklableError", "loading it again raised ZeroDivisionError"),
        (Exits, (), "WorkerCrashedError", "exited with code 7"),
        (nested, (100_000,), "UnpicklableError", "deep recursion"),
        (counted, (), "TypeError", "generator"),
    ],
    ids=["raises", "exits", "deep", "generator"],
)
def test_result_of_any_kind_harms_nobody(
    func: Callable[..., object], args: tuple[Any, ...], kind: str, text: str
) -> None:
    """One that the reader could not load fails its task: whoever reads the report is not to find out."""
    error = run_beside_others(func, args=args)
    assert error.exception_type.rpartition(".")[2] == kind
    assert text in error.exception


# ---- locals that fight back ------------------------------------------------------------------------------------------


class Sleeps:
    def __repr__(self) -> str:
        time.sleep(60)
        return ""


class Dies:
    def __repr__(self) -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""


class Grows:
    def __repr__(self) -> str:
        return "x" * 2**28


def fail_beside(kind: type) -> NoReturn:
    first = 1  # noqa: F841
    mine = kind()  # noqa: F841
    raise ValueError("the cause")


@every_method
@pytest.mark.parametrize(("kind", "why"), [(Sleeps, "took over 2 s"), (Dies, "was killed by SIGKILL")])
def test_local_that_hangs_or_kills_costs_only_the_locals(method: str, kind: type, why: str) -> None:
    """What was sure before stands: type, text, traceback; and it says what became of the rest. It is one failure."""
    tasks = [Task("a", fail_beside, args=(kind,)), Task("b", len, args=("22",))]
    report = run(tasks, pool(method, 1))
    entry = report.entries["a"]
    assert entry.error is not None
    assert (entry.error.exception_type, entry.error.exception) == ("ValueError", "the cause")
    assert 'raise ValueError("the cause")' in entry.error.traceback_str
    assert why in entry.error.traced_vars["..."]
    assert (entry.attempts, report.entries["b"].result) == (1, 2)


def test_local_that_grows_is_cut() -> None:
    """A repr of a quarter of a gigabyte arrives as its beginning and its end; the others beside it are whole."""
    shown = run_beside_others(fail_beside, args=(Grows,)).traced_vars
    assert len(shown["mine"]) < 3_000
    assert shown["first"] == "1"


def test_failure_is_bounded_whatever_stands_in_its_locals() -> None:
    """Much of everything, in many frames, is some megabyte at most."""

    def deep(depth: int) -> int:
        texts = [str(depth) * 10_000 for _ in range(50)]
        return deep(depth - 1) + len(texts) if depth else 1 // 0

    error = run_beside_others(deep, args=(400,))
    assert len(repr(error)) < 2_000_000
    assert error.chain[0].frames_left_out > 300


# ---- the chain -------------------------------------------------------------------------------------------------------


def fail_in_a_chain() -> None:
    present = {"j": 1}
    try:
        try:
            del present["k"]
        except KeyError as error:
            number = 7  # noqa: F841
            error.add_note("look at the keys")
            raise OSError("no disk") from error
    except OSError:
        raise ValueError("in the end")  # noqa: B904  a context is wanted


def test_chain_has_causes_contexts_notes_and_frames(mode: str | None) -> None:
    """4.2: as data: what was raised, of what it came, and where each stood, with locals."""
    error = run_beside_others(fail_in_a_chain, mode)
    assert [(link.relation, link.type) for link in error.chain] == [
        ("", "ValueError"),
        ("context", "OSError"),
        ("cause", "KeyError"),
    ]
    assert error.chain[2].notes == ("look at the keys",)
    frame = error.chain[0].frames[-1]
    assert (frame.file, frame.function) == (__file__, "fail_in_a_chain")
    assert frame.source.startswith('raise ValueError("in the end")')
    assert frame.locals["number"] == "7"


def fail_as_a_group() -> NoReturn:
    raise ExceptionGroup("two", [ValueError("one"), ExceptionGroup("inner", [TypeError("other")])])


def test_chain_has_the_members_of_groups(mode: str | None) -> None:
    """4.2: nested as they were."""
    (link,) = run_beside_others(fail_as_a_group, mode).chain
    first, inner = link.members
    assert (first[0].type, first[0].text) == ("ValueError", "one")
    assert inner[0].members[0][0].type == "TypeError"


def test_chain_ends_where_it_bites_its_tail(mode: str | None) -> None:
    """A circle of causes is told once."""
    assert [link.text for link in run_beside_others(raise_circle, mode).chain] == ["first", "second"]


# ---- the live exception ----------------------------------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def fail_with_code() -> NoReturn:
    raise Refused(42)


def test_exception_is_the_tasks_own(mode: str | None) -> None:
    """4.4: in an entry as in the runner's results, with the traceback of the child as a note."""
    process = Process([Task("a", fail_with_code)])
    entry = process.run(mode).entries["a"]
    for error in (entry.exception, process.runner.results["a"].exception):
        assert isinstance(error, Refused)
        assert error.code == 42
        if mode == "processes":
            assert "fail_with_code" in error.__notes__[0]
    assert entry.exception is entry.exception


def test_exception_that_cannot_come_has_a_stand_in() -> None:
    """It names the type and reads like the original."""
    report = Process([Task("a", raise_, args=(TwoArguments, 1, 2))]).run("processes")
    error = report.entries["a"].exception
    assert isinstance(error, RemoteTaskError)
    assert error.exception_type.endswith("TwoArguments")
    assert "1 and 2" in str(error)


def test_exception_of_a_success_is_none(mode: str | None) -> None:
    """There is nothing to raise."""
    report = Process([Task("a", int)]).run(mode)
    assert report.entries["a"].exception is None
    report.raise_for_errors()


def test_entry_keeps_its_exception_when_it_is_pickled(mode: str | None) -> None:
    """Where that can be done; else a RemoteTaskError stands for it."""
    import pickle

    report = Process([Task("a", fail_with_code), Task("b", raise_, args=(HoldsALock,))]).run(mode)
    again: ProcessExecutionReport = pickle.loads(pickle.dumps(report))
    assert again == report
    assert isinstance(again.entries["a"].exception, Refused)
    assert isinstance(again.entries["b"].exception, RemoteTaskError)


def test_raise_for_errors_raises_the_tasks_own(mode: str | None) -> None:
    """Each with the name of its task; a SystemExit is wrapped, so that it ends nobody's program."""
    tasks = [Task("a", fail_with_code), Task("b", raise_, args=(SystemExit, 3)), Task("fine", int)]
    report = Process(tasks).run(mode)
    with pytest.raises(ExceptionGroup, match="2 of 3 tasks failed") as caught:
        report.raise_for_errors()
    own, wrapped = caught.value.exceptions
    assert isinstance(own, Refused)
    assert "(task 'a')" in own.__notes__
    assert isinstance(wrapped, TaskFailedError)
    assert wrapped.task_name == "b"
    assert isinstance(wrapped.__cause__, SystemExit)


# ---- arguments -------------------------------------------------------------------------------------------------------


def refuse(*args: object, **kwargs: object) -> NoReturn:
    raise ValueError("no")


def test_arguments_of_the_call_are_told(mode: str | None) -> None:
    """C10: results of dependencies included, in their places."""
    takes = [TaskDependency("one", True), TaskDependency("two", False, True, "second")]
    tasks = [
        Task("one", int, args=("1",)),
        Task("two", str, args=("2",)),
        Task("a", refuse, None, ("own",), {"n": 3}, takes),
    ]
    report = Process(tasks).run(mode)
    error = report.entries["a"].error
    assert error is not None
    assert repr(error.args) == "('own', 1)"
    assert repr(error.kwargs) == "{'n': 3, 'second': '2'}"
    assert (report.entries["a"].args, report.entries["a"].kwargs) == (("own",), {"n": 3})


# ---- deaths ----------------------------------------------------------------------------------------------------------


def stay_here(address: bytes) -> None:
    import logging

    for number in range(12):
        logging.getLogger("etl").warning("line %d", number)
    pass_gate(address)


def hold_the_gil(folder: str) -> None:
    import ctypes

    Path(folder, "holds").touch()
    ctypes.PyDLL(None).sleep(600)


def crash() -> None:
    import ctypes

    ctypes.string_at(0)


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child may take long on a busy machine until it says where it is, but it does."""
    monkeypatch.setattr("processes.child.STACK_WAIT_S", 30.0)


@pytest.mark.usefixtures("_patient")
@every_method
def test_timeout_tells_where_the_task_was(method: str, gate: Gate) -> None:
    """The innermost line of the user's own code, the stack, and what was logged last."""
    entry = run([Task("a", stay_here, args=(gate.address,), timeout=2.5)], pool(method, 1)).entries["a"]
    assert entry.error is not None
    assert entry.error.stuck_at.startswith(pass_gate.__code__.co_filename + ":")
    assert "in pass_gate" in entry.error.traceback_str
    assert "in stay_here" in entry.error.traceback_str
    assert entry.error.traceback_str.splitlines()[-1].endswith("Task 'a' timed out after 2.5s")
    assert entry.error.last_log_lines == tuple(f"WARNING - line {number}" for number in range(2, 12))


@pytest.mark.usefixtures("_patient")
def test_timeout_tells_where_c_code_holds_the_gil(tmp_path: Path) -> None:
    """No Python code could answer there; the signal's handler does."""
    entry = run([Task("a", hold_the_gil, args=(str(tmp_path),), timeout=1.0)], pool("forkserver", 1)).entries["a"]
    assert entry.error is not None
    assert (tmp_path / "holds").exists()
    assert entry.error.stuck_at.startswith(f"{__file__}:")


def block_signals(address: bytes) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    pass_gate(address)


def test_timeout_of_a_task_that_blocks_signals_says_that_nothing_is_known(gate: Gate) -> None:
    """It is killed all the same."""
    entry = run([Task("a", block_signals, args=(gate.address,), timeout=0.3)], pool("forkserver", 1)).entries["a"]
    assert entry.error is not None
    assert entry.error.exception_type == "processes.TaskTimeoutError"
    assert entry.error.stuck_at == ""
    assert "is not known" in entry.error.traceback_str


@every_method
def test_crash_tells_the_python_stack(method: str) -> None:
    """As faulthandler wrote it, above the line that names the signal."""
    entry = run([Task("a", crash)], pool(method, 1)).entries["a"]
    assert entry.error is not None
    assert entry.error.stuck_at.startswith(f"{__file__}:")
    assert "Segmentation fault" in entry.error.traceback_str
    assert "in crash" in entry.error.traceback_str
    assert "SIGSEGV" in entry.error.traceback_str.splitlines()[-1]


def test_kill_by_hand_is_told_from_the_out_of_memory_killer() -> None:
    """The kernel counts whom it kills for want of memory."""
    entry = run([Task("a", os.kill, args=(0, 0))], pool("forkserver", 1)).entries["a"]
    assert entry.status is TaskStatus.SUCCESS  # signal 0 does nothing
    entry = run([Task("a", lambda: os.kill(os.getpid(), signal.SIGKILL))], pool("forkserver", 1)).entries["a"]
    assert entry.error is not None
    assert "the task or a program did" in entry.error.exception


def test_kill_for_want_of_memory_is_told_from_one_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is left: the machine's own out-of-memory killer cannot be called here, so its count is played."""
    counts = iter((7, 8))
    monkeypatch.setattr("processes.usage.oom_kills", lambda: next(counts))
    entry = run([Task("a", lambda: os.kill(os.getpid(), signal.SIGKILL))], pool("forkserver", 1)).entries["a"]
    assert entry.error is not None
    assert re.search(
        r"peak \d+ MiB\. The system's out-of-memory killer struck .*\(\d+ MiB are available", entry.error.exception
    )


def test_death_says_which_attempt_it_was() -> None:
    """4.4: of a task that is tried again, each death its own."""
    task = Task("a", lambda: os._exit(7), retries=1, retry_on=(WorkerCrashedError,))
    entry = run([task], pool("forkserver", 1)).entries["a"]
    assert entry.error is not None
    assert entry.error.exception.startswith("Task 'a', attempt 2: its child (pid ")
    assert "exited with code 7" in entry.error.exception
    assert ", attempt" not in entry.attempt_log[0].why


# ---- secrets ---------------------------------------------------------------------------------------------------------


def connect(db: str, api_key: str) -> NoReturn:
    import logging

    password = "hunter2"  # noqa: F841, S105
    config = {"token": "hunter2", "host": "db"}  # noqa: F841
    logging.getLogger("etl").info("connecting to %s with Bearer %s", db, "hunter2")
    raise ConnectionError(f"refused: {db}")


def test_secrets_are_in_no_output(mode: str | None, tmp_path: Path) -> None:
    """C7: neither in the log nor in the failure, whatever way they take."""
    path = tmp_path / "a.log"
    task = Task("a", connect, path, (f"pg://u:{SECRET}@h",), {"api_key": SECRET})
    with Process([task]) as process:
        error = process.run(mode).entries["a"].error
    assert error is not None
    assert error.traced_vars["password"] == "[redacted]"  # noqa: S105
    assert "pg://u:[redacted]@h" in error.exception
    told = path.read_text(encoding="utf-8")
    assert "connecting to pg://u:[redacted]@h with Bearer [redacted]" in told
    shown = told + error.traceback_str + error.exception + repr(error.traced_vars) + repr(error.chain)
    assert SECRET not in shown


def test_redaction_can_be_switched_off_and_extended(mode: str | None) -> None:
    """For a whole Process."""

    def fail(iban: str) -> NoReturn:
        password = SECRET  # noqa: F841
        raise ValueError

    def shown(*, redact: bool | tuple[str, ...]) -> dict[str, str]:
        error = Process([Task("a", fail, args=("DE00",))], redact=redact).run(mode).entries["a"].error
        assert error is not None
        return error.traced_vars

    assert shown(redact=False)["password"] == repr(SECRET)
    assert shown(redact=("iban",))["iban"] == "[redacted]"
    assert shown(redact=True)["iban"] == "'DE00'"


@pytest.mark.parametrize("redact", [1, None, [1], [""]])
def test_redaction_is_a_bool_or_names(redact: Any) -> None:  # noqa: ANN401  of a wrong type
    """Anything else is refused before anything runs."""
    with pytest.raises(TypeError, match="redact must be a bool, or names"):
        Process([], redact=redact)
