"""
The defects of 7.0.4, block by block, in nothing but its own vocabulary: each fails where that is installed.

So this file can be run with either: it names no class, parameter or module that 7.0.4 has not.
"""

import contextvars
import gc
import json
import logging
import os
import pickle
import ssl
import subprocess
import sys
import threading
import urllib.request
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
import trustme

from processes import (
    CircularDependencyError,
    DependencyNotFoundError,
    EmailChannel,
    HTMLEmailStyle,
    Process,
    ProcessExecutionReport,
    ReportChannel,
    ReportContent,
    SMTPConfig,
    Task,
    TaskDependency,
    TaskNotFoundError,
    WebhookChannel,
    WebhookConfig,
)
from support.http import Receiver, status
from support.smtp import PASSWORD, USER, Fault, ScriptedServer, mail_server, server_context

MODES = pytest.mark.parametrize("mode", [False, "threads", True], ids=["sequential", "threads", "processes"])
SHARED_MEMORY = pytest.mark.parametrize("mode", [False, "threads"], ids=["sequential", "threads"])

#: A fail-safe that no passing test meets, in seconds.
WAIT_S = 20.0


def fail() -> NoReturn:
    raise ValueError("no such luck")


def status_of(report: ProcessExecutionReport, name: str) -> str:
    return report.entries[name].status.value


def message_of(report: ProcessExecutionReport, name: str) -> str:
    error = report.entries[name].error
    assert error is not None
    return error.exception


def run_script(text: str) -> subprocess.CompletedProcess[str]:
    """A program of its own, which has to end."""
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def work_of(function: Callable[[], object]) -> int:
    """Calls that a call makes in this thread, of functions in C too: what is looked through is asked something."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def growth(prepare: Callable[[int], Callable[[], object]], size: int = 60) -> float:
    """How much more is done for four times as much: 4 where work grows as the size does, 16 where as its square."""
    prepare(size)()  # What is done once only must not count.
    small = work_of(prepare(size))
    return work_of(prepare(4 * size)) / small


# ---- A: execution ----------------------------------------------------------------------------------------------------


def succeed_if_there(path: str) -> None:
    if not os.path.exists(path):
        raise ValueError("not yet")


@MODES
def test_a1_second_run_is_fresh(mode: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """It runs everything again, in every mode."""
    process = Process([Task("a", succeed_if_there, args=(str(tmp_path / "there"),)), Task("b", len, args=("xy",))])
    assert status_of(process.run(parallel=mode), "a") == "errored"
    (tmp_path / "there").touch()
    assert status_of(process.run(parallel=mode), "a") == "success"


@pytest.mark.parametrize("mode", ["False", "'threads'", "True"])
def test_a2_program_ends_though_a_task_never_does(mode: str) -> None:
    """A time-out ends the wait for it, in the interpreter too."""
    script = (
        "import threading; from processes import Process, Task\n"
        "def stay(): threading.Event().wait()\n"
        f"report = Process([Task('a', stay, timeout=0.2)]).run(parallel={mode})\n"
        "print(report.entries['a'].status.value)"
    )
    assert run_script(script).stdout == "errored\n"


@SHARED_MEMORY
def test_a3_retries_do_not_overlap(mode: Any) -> None:  # noqa: ANN401
    """No second copy of a task runs beside the first."""
    opened = threading.Event()
    begun: list[threading.Thread] = []

    def stay() -> None:
        begun.append(threading.current_thread())
        opened.wait(WAIT_S)

    try:
        Process([Task("a", stay, timeout=0.05, retries=3), Task("b", int)]).run(parallel=mode)
        assert len(begun) == 1
    finally:
        opened.set()
    for thread in begun:
        thread.join()


def refuse_in_time() -> NoReturn:
    raise TimeoutError("db said no")


@MODES
def test_a4_timeout_error_of_a_task_stays_its_own(mode: Any) -> None:  # noqa: ANN401
    """With its message, and with the task's frame."""
    report = Process([Task("a", refuse_in_time, timeout=30), Task("b", int)]).run(parallel=mode)
    assert message_of(report, "a") == "db said no"
    error = report.entries["a"].error
    assert error is not None
    assert "refuse_in_time" in error.traceback_str


@MODES
def test_a5_system_exit_of_a_task_is_its_failure(mode: Any) -> None:  # noqa: ANN401
    """The others run, and there is a report."""
    report = Process([Task("a", sys.exit, args=(3,)), Task("b", int)]).run(parallel=mode)
    assert (status_of(report, "a"), status_of(report, "b")) == ("errored", "success")


@MODES
def test_a6_callable_without_a_name_is_a_task(mode: Any) -> None:  # noqa: ANN401
    """Whether it succeeds or fails."""
    report = Process([Task("a", partial(int, "5")), Task("b", partial(int, "zz"))]).run(parallel=mode)
    assert (report.entries["a"].result, status_of(report, "b")) == (5, "errored")


class Mute(Exception):
    def __str__(self) -> NoReturn:
        raise ZeroDivisionError


def fail_without_text() -> NoReturn:
    raise Mute


@MODES
def test_a7_exception_without_text_fails_its_task(mode: Any) -> None:  # noqa: ANN401
    """And the failure says which function it was, and of which type."""
    report = Process([Task("a", fail_without_text), Task("b", int)]).run(parallel=mode)
    error = report.entries["a"].error
    assert error is not None
    assert error.function == "fail_without_text"
    assert "Mute" in error.traceback_str
    assert status_of(report, "b") == "success"


@pytest.mark.parametrize("mode", ["'threads'", "True"])
def test_a8_interrupt_starts_nothing_more(mode: str, tmp_path: Path) -> None:
    """Ctrl-C while tasks run: those that wait are not begun."""
    script = f"""
import os, signal, threading, time
from processes import Process, Task
folder = {str(tmp_path)!r}
def work(name):
    open(os.path.join(folder, name), "w").close()
    time.sleep(0.3)
def interrupt():
    while not os.listdir(folder):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    Process([Task(f"t{{n}}", work, args=(f"t{{n}}",)) for n in range(24)]).run(parallel={mode}, max_workers=2)
except KeyboardInterrupt:
    print("interrupted")
"""
    assert run_script(script).stdout == "interrupted\n"
    assert len(list(tmp_path.iterdir())) < 24


def test_a9_crash_of_a_task_leaves_the_program_alone() -> None:
    """Tasks run in processes of their own, so at the same time, too."""
    script = (
        "import os; from processes import Process, Task\n"
        "tasks = [Task('a', lambda: os._exit(7)), Task('b', os.getpid)]\n"
        "report = Process(tasks).run(parallel=True)\n"
        "print(report.entries['a'].status.value, report.entries['b'].result != os.getpid())"
    )
    assert run_script(script).stdout == "errored True\n"


VARIABLE = contextvars.ContextVar("variable", default="unset")


@SHARED_MEMORY
@pytest.mark.parametrize("timeout", [None, WAIT_S])
def test_a10_task_sees_the_callers_context(mode: Any, timeout: float | None) -> None:  # noqa: ANN401
    """With a time-out and in threads as well."""
    token = VARIABLE.set("mine")
    try:
        report = Process([Task("a", VARIABLE.get, timeout=timeout), Task("b", int)]).run(parallel=mode)
    finally:
        VARIABLE.reset(token)
    assert report.entries["a"].result == "mine"


@pytest.mark.parametrize("count", [9, 10])
def test_a11_number_of_tasks_chooses_no_mode(count: int) -> None:
    """Without `parallel` all run in the caller's thread."""
    report = Process([Task(f"t{n}", threading.current_thread) for n in range(count)]).run()
    assert {entry.result for entry in report.entries.values()} == {threading.current_thread()}


def grow_and_fail(items: list[int]) -> NoReturn:
    items.append(1)
    raise ConnectionError(len(items))


def test_a12_tasks_in_children_share_nothing() -> None:
    """A retry finds the arguments as they were; a result is what was returned, whatever a consumer does to it."""
    takes = [TaskDependency("p", True)]
    tasks = [
        Task("b", grow_and_fail, args=([],), retries=2),
        Task("p", list, args=((0,),)),
        Task("c", lambda items: items.append("c"), dependencies=takes),
        Task("d", list, dependencies=takes),
    ]
    report = Process(tasks).run(parallel=True)
    assert message_of(report, "b") == "1"
    assert (report.entries["p"].result, report.entries["d"].result) == ([0], [0])


class Big:
    pass


@SHARED_MEMORY
def test_a13_failure_pins_no_locals(mode: Any) -> None:  # noqa: ANN401
    """What stood in the frames of a failed task is free when the run is over, though Process and report are there."""
    kept: list[weakref.ref[Big]] = []

    def hold_and_fail() -> NoReturn:
        big = Big()
        kept.append(weakref.ref(big))
        raise ValueError

    process = Process([Task("a", hold_and_fail), Task("b", int)])
    report = process.run(parallel=mode)
    gc.collect()
    assert status_of(report, "a") == "errored"
    assert kept[0]() is None
    assert process.runner.results["a"].exception is not None


async def answer() -> int:
    return 42


def generate() -> Any:  # noqa: ANN401
    yield 1


@MODES
def test_a14_coroutine_functions_run_and_generators_are_refused(mode: Any) -> None:  # noqa: ANN401
    """Neither succeeds without having run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a coroutine that nobody awaits
        report = Process([Task("a", answer), Task("b", generate)]).run(parallel=mode)
        assert report.entries["a"].result == 42
    assert status_of(report, "b") == "errored"


def ask_a_closed_port() -> None:
    urllib.request.urlopen("http://127.0.0.1:9", timeout=WAIT_S)


@MODES
def test_a15_refused_connection_is_retried(mode: Any) -> None:  # noqa: ANN401
    """As urllib tells it, too."""
    report = Process([Task("a", ask_a_closed_port, retries=2), Task("b", int)]).run(parallel=mode)
    assert report.entries["a"].attempts == 3


# ---- B: scaling ------------------------------------------------------------------------------------------------------


def test_b1_making_tasks_costs_as_much_as_there_are() -> None:
    """However many loggers there are."""
    made: list[Task] = []

    def work(count: int) -> None:
        made.extend(Task(f"t{len(made) + n}", int) for n in range(count))

    work(60)
    first = work_of(lambda: work(60))
    work(400)
    assert work_of(lambda: work(60)) < 1.5 * first


@MODES
def test_b2_batch_leaves_no_logger(mode: Any) -> None:  # noqa: ANN401
    """Names of loggers are kept for ever."""
    before = len(logging.root.manager.loggerDict)
    with Process([Task(f"left-{n}", int) for n in range(20)]) as process:
        process.run(parallel=mode)
    assert len(logging.root.manager.loggerDict) <= before + 2  # our own, and the first use of somebody else's


@pytest.mark.parametrize("mode", ["threads", True], ids=["threads", "processes"])
def test_b3_chain_costs_as_much_as_it_is_long(mode: Any) -> None:  # noqa: ANN401
    """An event costs the task that it is about, not all of them."""

    def prepare(count: int) -> Callable[[], object]:
        links = [[TaskDependency(f"t{n - 1}")] if n else [] for n in range(count)]
        process = Process([Task(f"t{n}", int, dependencies=links[n]) for n in range(count)])
        return partial(process.run, parallel=mode, max_workers=2)

    assert growth(prepare) < 8


def test_b4_tasks_that_share_a_logfile_share_its_descriptor(tmp_path: Path) -> None:
    """A thousand tasks need no thousand descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    with Process([Task(f"t{n}", int, str(tmp_path / "a.log")) for n in range(100)]) as process:
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        assert len(process.tasks) == 100


def test_b5_adding_tasks_costs_as_much_as_there_are() -> None:
    """The graph is not checked anew for each."""

    def prepare(count: int) -> Callable[[], object]:
        process, tasks = Process([]), [Task(f"t{n}", int) for n in range(count)]

        def add() -> None:
            for task in tasks:
                process.add_task(task)

        return add

    assert growth(prepare) < 8


# ---- D: report, JSON, notify -----------------------------------------------------------------------------------------


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "make",
    [lambda: {(1, 2): 3}, circle, lambda: float("nan"), lambda: {1: 2, "1": 3}],
    ids=["tuple key", "circle", "nan", "same text"],
)
def test_d1_every_result_is_written_as_json(make: Callable[[], object]) -> None:
    """Strictly, and with nothing lost."""

    def no_constant(text: str) -> NoReturn:
        raise ValueError(text)

    def no_double(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    text = Process([Task("a", make)]).run(parallel=False).to_json()
    json.loads(text, parse_constant=no_constant, object_pairs_hook=no_double)


class Recorder(ReportChannel):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []

    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        self.sent.append(list(report.entries))


def mixed() -> ProcessExecutionReport:
    return Process([Task("ok", int), Task("bad", fail)], name="nightly").run(parallel=False)


def test_d2_filters_compose_and_unknown_names_are_refused() -> None:
    """Nobody is alarmed of nothing."""
    channel = Recorder()
    mixed().notify(channel, only_errors=True, tasks=["ok"])
    mixed().notify(channel, tasks="ok")
    assert channel.sent == [["ok"]]
    with pytest.raises(ValueError, match="typo"):
        mixed().notify(channel, tasks=["typo"])


class Broken(ReportChannel):
    def send_report(self, report: ProcessExecutionReport, *, errors_only: bool) -> None:
        raise RuntimeError("smtp down")


def test_d3_every_failure_to_notify_is_told() -> None:
    """Not the first alone, under the filters that programs have."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(5):
            ProcessExecutionReport().notify(Broken())
    assert len(caught) == 5


def mailed(report: ProcessExecutionReport, *, language: str = "en", **options: Any) -> Any:  # noqa: ANN401
    """The one mail, as a message."""
    with mail_server() as server:
        config = SMTPConfig(server.address, "a@example.com", ["b@example.com"])
        report.notify(EmailChannel(config, HTMLEmailStyle(language=language), **options), show_warnings=False)
    (mail,) = server.mails
    return mail


def html_of(mail: Any) -> str:  # noqa: ANN401
    found = mail.message.get_body(("html",))
    text: str = found.get_content()
    return text


def refuse_both(first: str, *, k: str) -> NoReturn:
    raise ValueError


def test_d4_mail_tells_arguments_process_and_attempts() -> None:
    """With nothing else in it as well."""
    task = Task("b", refuse_both, args=("ARGUMENT",), kwargs={"k": "KEYWORD"})
    report = Process([task], name="PNAME").run(parallel=False)
    page = html_of(mailed(report, content=ReportContent(False, False)))
    assert [text for text in ("ARGUMENT", "KEYWORD", "PNAME", "Attempts") if text not in page] == []


# ---- E: transport ----------------------------------------------------------------------------------------------------


def send(address: tuple[str, int], **options: Any) -> None:  # noqa: ANN401
    config = SMTPConfig(address, "a@example.com", options.pop("to", ["b@example.com"]), **options)
    mixed().notify(EmailChannel(config), show_warnings=False)


def test_e1_silent_mail_server_is_given_up() -> None:
    """`timeout` holds."""
    with ScriptedServer({"banner": Fault.HANG}) as server:
        thread = threading.Thread(target=send, args=(server.address,), kwargs={"timeout": 0.2}, daemon=True)
        thread.start()
        thread.join(5)
        is_held_up = thread.is_alive()
    thread.join()
    assert not is_held_up


def test_e2_certificate_is_looked_at() -> None:
    """A server that nobody vouches for gets neither password nor mail."""
    with mail_server(starttls=server_context(trustme.CA(), None)) as server:
        send(server.address, credentials=(USER, PASSWORD), secure=())
    assert server.mails == []


def test_e3_context_of_ones_own_is_used_on_every_python() -> None:
    """On 3.12 and newer, too."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with mail_server(starttls=server_context(authority, authority.issue_cert("localhost"))) as server:
        send(server.address, credentials=(USER, PASSWORD), secure=(None, None, context))
    assert [mail.user for mail in server.mails] == [USER]


@pytest.mark.parametrize("options", [{"secure": ()}, {"credentials": (USER, PASSWORD)}], ids=["secure", "credentials"])
def test_e4_nothing_goes_in_clear_text_that_is_to_be_secret(options: dict[str, Any]) -> None:
    """To a server without encryption: no mail where it was asked for, and no password."""
    with mail_server() as server:
        send(server.address, **options)
    assert server.mails == []


def test_e5_badges_and_language_are_the_readers() -> None:
    """In a Spanish mail nothing is in English."""
    tasks = [Task("a", int), Task("b", fail), Task("c", int, dependencies=[TaskDependency("b")])]
    page = html_of(mailed(Process(tasks).run(parallel=False), language="es"))
    assert 'lang="es"' in page
    assert all(f">{status}<" not in page for status in ("success", "errored", "skipped"))


@pytest.mark.parametrize("name", ["x\nBcc: evil@example.com", "x\n\n<h1>hi</h1>"])
def test_e6_line_break_in_a_name_ends_no_header(name: str) -> None:
    """The mail arrives, with a subject of one line and a date."""
    mail = mailed(Process([Task("a", int)], name=name).run(parallel=False))
    assert mail.message["Date"] is not None
    assert mail.message["Bcc"] is None
    assert mail.message["Subject"].startswith("Process Execution Report x ")


def test_e7_refused_recipient_is_told_and_one_address_is_one() -> None:
    """The others get it."""
    with mail_server(refused=["bad@example.com"]) as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        to = ["good@example.com", "bad@example.com"]
        mixed().notify(EmailChannel(SMTPConfig(server.address, "a@example.com", to)))
        mixed().notify(EmailChannel(SMTPConfig(server.address, "a@example.com", "ops@example.com")))  # type: ignore[arg-type, unused-ignore]
    assert [mail.recipients for mail in server.mails] == [["good@example.com"], ["ops@example.com"]]
    assert any("bad@example.com" in str(warning.message) for warning in caught)


def test_e8_redirect_is_no_delivery() -> None:
    """No other host gets the report, or the header that lets one in."""
    with Receiver() as other, Receiver(status(302, Location=f"{other.origin}/x")) as receiver:
        hook = WebhookConfig(f"{receiver.origin}/", headers={"Authorization": "Bearer it"})
        with pytest.warns(UserWarning, match="WebhookChannel failed"):
            mixed().notify(WebhookChannel(hook))
    assert other.requests == []


def test_e8_only_http_is_posted_to(tmp_path: Path) -> None:
    """A file is no receiver."""
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="WebhookChannel failed"):
        mixed().notify(WebhookChannel(WebhookConfig((tmp_path / "file").as_uri())))


def test_e9_payload_is_whole() -> None:
    """What is added does not erase it, and failures alone tell what was skipped for them."""
    report = Process([Task("b", fail), Task("c", int, dependencies=[TaskDependency("b")])]).run(parallel=False)
    with Receiver() as receiver:
        erasing = WebhookConfig(f"{receiver.origin}/", nest_under="data", extra_payload={"data": 1})
        report.notify(WebhookChannel(erasing), show_warnings=False)
        report.notify(WebhookChannel(WebhookConfig(f"{receiver.origin}/")), only_errors=True)
    bodies = [json.loads(request.body) for request in receiver.requests]
    assert all(body.get("data") != 1 for body in bodies)
    assert "c" in bodies[-1]["skipped"]


# ---- F: graph and validation -----------------------------------------------------------------------------------------


def test_f1_circle_is_shown() -> None:
    """With the names of its tasks."""
    tasks = [Task(name, int, dependencies=[TaskDependency(wanted)]) for name, wanted in ("xy", "yz", "zx")]
    with pytest.raises(CircularDependencyError, match=r"x.*x|y.*y|z.*z"):
        Process([*(Task(f"t{n}", int) for n in range(5)), *tasks])


@pytest.mark.parametrize("tasks", [["x"], None, {"a": 1}], ids=repr)
def test_f2_what_is_no_list_of_tasks_is_a_type_error(tasks: Any) -> None:  # noqa: ANN401
    """It says so, and nothing else."""
    with pytest.raises(TypeError, match=r"tasks? must be"):
        Process(tasks)


def test_f3_names_are_found_in_any_case() -> None:
    """As they were given, and as they are folded."""
    process = Process([Task("Fetch", int)])
    assert process.get_task("Fetch").name == "fetch"
    process.remove_task("FETCH")
    with pytest.raises(ValueError, match="Duplicate"):
        Process([Task("straße", int), Task("STRASSE", int)])


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb"])
def test_f3_name_that_breaks_a_line_is_refused(name: str) -> None:
    """And an empty one."""
    with pytest.raises(ValueError, match="name"):
        Task(name, int)


@pytest.mark.parametrize(
    "options",
    [{"retries": True}, {"timeout": True}, {"timeout": float("inf")}, {"timeout": float("nan")}, {"retry_on": ()}],
    ids=str,
)
def test_f4_odd_limits_are_type_errors(options: dict[str, Any]) -> None:
    """True is no number, and no time is infinite."""
    with pytest.raises(TypeError):
        Task("a", int, **options)


@pytest.mark.parametrize("name", [None, 5])
def test_f4_keyword_is_a_name(name: Any) -> None:  # noqa: ANN401
    """Found out when it is given, not when the task runs."""
    with pytest.raises(TypeError):
        TaskDependency("p", False, True, name)


def test_f4_equal_dependencies_are_equal() -> None:
    """And one in a set."""
    assert TaskDependency("a") == TaskDependency("a")
    assert len({TaskDependency("a"), TaskDependency("a")}) == 1


def test_f5_keyword_without_its_flag_is_told() -> None:
    """It has no effect."""
    with pytest.warns(UserWarning, match="x"):
        TaskDependency("p", additional_kwarg_name="x")


def test_f6_tasks_share_no_list_of_dependencies() -> None:
    """What one is given later the other does not get."""
    shared: list[TaskDependency] = []
    tasks = [Task("x", int, dependencies=shared), Task("y", int, dependencies=shared), Task("z", int)]
    Process(tasks).add_task_dependency("x", TaskDependency("z"))
    assert tasks[1].get_dependencies_names() == set()


@pytest.mark.parametrize("error", [TaskNotFoundError("x"), DependencyNotFoundError("a", "b")], ids=repr)
def test_f7_errors_survive_pickling(error: Exception) -> None:
    """With text and facts."""
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
