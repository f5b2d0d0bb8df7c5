"""Every error of the library survives pickling with its facts, and reads as a sentence."""

import copy
import inspect
import pickle
import signal
from typing import NoReturn

import pytest

from processes import ProcessExecutionReport, exceptions
from processes.exceptions import (
    CircularDependencyError,
    DependencyNotFoundError,
    MemoryLimitError,
    ProcessesError,
    RemoteTaskError,
    ReportDeliveryError,
    RunTerminated,
    TaskCheckError,
    TaskFailedError,
    TaskNotFoundError,
    TaskTimeoutError,
    UnpicklableError,
    WorkerCrashedError,
    WorkerStartError,
    signal_name,
)

#: One or more of every class; a class without one fails `test_errors_have_a_sample_each`.
SAMPLES: list[ProcessesError] = [
    ProcessesError("anything"),
    CircularDependencyError("a -> b -> a"),
    DependencyNotFoundError("load", "fetch"),
    DependencyNotFoundError("load", "fetch", missing=[("load", "fetch"), ("clean", "load")]),
    TaskNotFoundError("nobody"),
    TaskTimeoutError.of_attempt("slow", 0.05),
    TaskTimeoutError.of_deadline("slow", 60),
    MemoryLimitError("big", 2**30, 2**31),
    WorkerCrashedError("crash", status=-11, pid=4711, seconds=12.4, peak_memory=3 * 2**30),
    WorkerCrashedError("exit", status=3, pid=4711, seconds=0.1),
    WorkerStartError("The initializer failed.", stderr="Traceback ..."),
    UnpicklableError("load", "args[0]", "cannot pickle '_thread.lock' object"),
    UnpicklableError(
        "load", "kwargs['cfg']", "TypeError: cannot pickle '_io.X' object", path="cfg.db._f", kind="_io.X"
    ),
    UnpicklableError("load", "function", "ValueError: not me", path="f.<closure>.db", kind="etl.Db"),
    TaskCheckError("Task 'load': f is a generator function.", task_name="load", what="func"),
    RemoteTaskError("mymodule.MyError", "it failed", "Traceback ..."),
    TaskFailedError("quits", "SystemExit"),
    ReportDeliveryError("Not sent.", host="mail", port=25, step="RCPT TO", refused={"a@b.c": "550 no"}),
]

# What Exception itself has, and the report, which may hold what no pickle can.
NO_FIELDS = {"args", "report", "add_note", "with_traceback", "__notes__"}


def errors_of_the_library() -> set[type[ProcessesError]]:
    """All error classes of the module, the root included."""
    found, queue = {ProcessesError}, [ProcessesError]
    while queue:
        below = queue.pop().__subclasses__()
        found.update(below)
        queue += below
    return {kind for kind in found if kind.__module__ in {"processes", "processes.exceptions"}}


def facts(error: ProcessesError) -> dict[str, object]:
    """The fields of an error."""
    return {name: value for name, value in inspect.getmembers(error) if name[0] != "_" and name not in NO_FIELDS}


def test_errors_have_a_sample_each() -> None:
    """A new class must come with one, so that what follows holds for it too."""
    assert {type(sample) for sample in SAMPLES} == errors_of_the_library()


def test_errors_of_the_module_have_one_root() -> None:
    """A caller can catch everything of the library's own at once; what ends the program is no error."""
    kinds = {kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert {kind for kind in kinds if not issubclass(kind, ProcessesError)} == {RunTerminated}
    assert not issubclass(RunTerminated, Exception)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(protocol: int) -> None:
    """Class, text, arguments and every fact are the same afterwards."""
    for sample in SAMPLES:
        again = pickle.loads(pickle.dumps(sample, protocol))
        assert type(again) is type(sample)
        assert (str(again), again.args) == (str(sample), sample.args)
        assert facts(again) == facts(sample)


def test_errors_survive_copying() -> None:
    """As above, without a process between."""
    for sample in SAMPLES:
        again = copy.deepcopy(sample)
        assert type(again) is type(sample)
        assert (str(again), facts(again)) == (str(sample), facts(sample))


def test_errors_keep_their_notes() -> None:
    """What was added to an error on its way is still there."""
    error = TaskNotFoundError("nobody")
    error.add_note("asked for by the user")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["asked for by the user"]


def test_errors_of_a_users_subclass_survive_pickling() -> None:
    """A subclass may have an `__init__` and facts of its own."""
    again = pickle.loads(pickle.dumps(UsersTimeoutError(7)))
    assert type(again) is UsersTimeoutError
    assert (again.number, again.task_name, again.timeout) == (7, "t", 1.0)


class UsersTimeoutError(TaskTimeoutError):
    """What a user may derive."""

    def __init__(self, number: int) -> None:
        """Another signature."""
        super().__init__("too late", task_name="t", timeout=1.0)
        self.number = number


class Unpicklable(str):
    """A name that no pickle can have."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError


def test_worker_start_error_leaves_its_report_behind() -> None:
    """A report may hold what cannot be pickled; the error must not be lost with it."""
    error = WorkerStartError("The initializer failed.")
    error.report = ProcessExecutionReport(process_name=Unpicklable("etl"))
    assert pickle.loads(pickle.dumps(error)).report is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_run_terminated_survives_pickling(protocol: int) -> None:
    """With its exit code, its signal and its notes; the report, which may hold what no pickle can, stays behind."""
    error = RunTerminated(signal.SIGTERM, "stopped")
    error.report = ProcessExecutionReport(process_name=Unpicklable("etl"))
    error.add_note("by the user")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is RunTerminated
    assert (again.code, again.args, again.signal, str(again)) == (143, (143,), "SIGTERM", "stopped")
    assert (again.report, again.__notes__) == (None, ["by the user"])


def test_run_terminated_says_why() -> None:
    """A SystemExit would say its exit code."""
    assert str(RunTerminated(signal.SIGHUP)) == "the program was told to end by SIGHUP"
    assert RunTerminated(signal.SIGHUP).code == 129


def test_errors_say_what_happened() -> None:
    """The sentences, with the facts in them."""
    texts = [str(sample) for sample in SAMPLES]
    assert texts == [
        "anything",
        "a -> b -> a",
        "Task 'load' depends on missing task: 'fetch'",
        "Task 'load' depends on missing task: 'fetch'; Task 'clean' depends on missing task: 'load'",
        "Task not found: 'nobody'",
        "Task 'slow' timed out after 0.05s",
        "Task 'slow' was stopped: the run's deadline of 60s passed",
        "Task 'big' used 2048 MiB, over its memory limit of 1024 MiB",
        "Task 'crash': its child (pid 4711) was killed by SIGSEGV after 12.4 s, peak 3072 MiB.",
        "Task 'exit': its child (pid 4711) exited with code 3 after 0.1 s.",
        "The initializer failed.\nTraceback ...",
        (
            "Task 'load': args[0] cannot be pickled: cannot pickle '_thread.lock' object. Pass plain data and open "
            'files, locks and connections inside the task, or use parallel="threads".'
        ),
        (
            "Task 'load', argument cfg.db._f: an _io.X cannot be pickled; open it inside the task, "
            'or use parallel="threads".'
        ),
        (
            "Task 'load', function f.<closure>.db: an etl.Db cannot be pickled (ValueError: not me); open it inside "
            'the task, or use parallel="threads".'
        ),
        "Task 'load': f is a generator function.",
        "mymodule.MyError: it failed",
        "Task 'quits' raised SystemExit",
        "Not sent.",
    ]


def test_task_timeout_error_is_a_timeout_error() -> None:
    """A program that catches the builtin, or retries on it, goes on working."""
    error = TaskTimeoutError.of_attempt("slow", 5)
    assert isinstance(error, TimeoutError)
    assert (error.timeout, error.is_deadline) == (5, False)
    assert TaskTimeoutError.of_deadline("slow", 5).is_deadline


def test_memory_limit_error_is_a_memory_error() -> None:
    """As above."""
    assert isinstance(MemoryLimitError("big", 1, 2), MemoryError)


def test_worker_crashed_error_names_signal_or_exit_code() -> None:
    """One of both; exit code 0 is an exit as well."""
    by_signal = WorkerCrashedError("t", status=-9, pid=1, seconds=0.0)
    assert (by_signal.signal, by_signal.exitcode) == ("SIGKILL", None)
    by_hand = WorkerCrashedError("t", status=-9, pid=1, seconds=0.0, hint="It was killed by hand.")
    assert str(by_hand) == f"{by_signal} It was killed by hand."
    by_itself = WorkerCrashedError("t", status=0, pid=1, seconds=0.0)
    assert (by_itself.signal, by_itself.exitcode) == (None, 0)


def test_remote_task_error_without_message_reads_as_its_type() -> None:
    """No colon dangles."""
    assert str(RemoteTaskError("KeyError", "")) == "KeyError"


def test_unpicklable_error_names_the_way_out_for_a_result() -> None:
    """A result is not passed: other advice than for arguments."""
    assert "Return plain data" in str(UnpicklableError("t", "result", "cannot pickle 'generator' object"))


def test_signal_name_of_a_nameless_signal_is_its_number() -> None:
    """Real-time signals have no name each."""
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(40) == "signal 40"
