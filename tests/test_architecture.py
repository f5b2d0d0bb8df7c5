"""What holds for the project as a whole: its public names, what importing it costs, what lies at its top."""

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import processes

ROOT = Path(__file__).parents[1]

PUBLIC = [
    "AttemptRecord",
    "CircularDependencyError",
    "Delivery",
    "DependencyNotFoundError",
    "EmailChannel",
    "ErrorData",
    "ExceptionData",
    "FigureChange",
    "FrameData",
    "HTMLEmailStyle",
    "MemoryLimitError",
    "Process",
    "ProcessExecutionReport",
    "ProcessPool",
    "ProcessesError",
    "RemoteTaskError",
    "ReportChannel",
    "ReportComparison",
    "ReportContent",
    "ReportDeliveryError",
    "RunFinished",
    "RunInfo",
    "RunStarted",
    "RunTerminated",
    "SMTPConfig",
    "Task",
    "TaskCheckError",
    "TaskDependency",
    "TaskFailedError",
    "TaskFinished",
    "TaskNotFoundError",
    "TaskReportEntry",
    "TaskResult",
    "TaskRetried",
    "TaskStarted",
    "TaskStatus",
    "TaskTimeoutError",
    "UnpicklableError",
    "Usage",
    "WebhookChannel",
    "WebhookConfig",
    "WorkerCrashedError",
    "WorkerStartError",
    "__version__",
]

# Slow to load, and a child loads the package before its first task. Of ours, what loads them or reads files.
LOADED_WHEN_NEEDED = {
    "asyncio",
    "email",
    "hmac",
    "http.client",
    "processes.comms.deliver",
    "processes.comms.email",
    "processes.comms.html",
    "processes.comms.webhook",
    "smtplib",
    "ssl",
    "urllib.request",
}

TOP_LEVEL = {"src", "tests", "benchmarks", "pyproject.toml", "tox.ini", "README.md", "LICENSE"}

MAIN_JOB = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox run -e etl"
RUN_TESTS = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after the statement."""
    script = f"{statement}\nimport json, sys; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(result.stdout))


def stripped_lines(path: str) -> list[str]:
    """The lines of a file of the project, without indentation."""
    return [line.strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines()]


def test_import_loads_nothing_slow() -> None:
    """Who imports the package waits for none of the modules that send reports."""
    assert not modules_after("from processes import Process, ProcessPool, Task, TaskDependency") & LOADED_WHEN_NEEDED


def test_import_leaves_for_later_what_is_loaded_while_the_keeper_starts() -> None:
    """A run launches its first process before it loads these; the slow ones of the standard library are among them."""
    ours = {"backends.pool", "events", "failure", "logs", "redaction", "runner"}
    later = {f"processes.{name}" for name in ours} | {"dataclasses", "inspect", "logging", "subprocess", "traceback"}
    assert not modules_after("from processes import Process, ProcessPool, Task, TaskDependency") & later
    assert modules_after("import processes.backends.pool, processes.runner, subprocess") >= later


def test_names_load_nothing_that_sends() -> None:
    """Naming the channels is not using them."""
    named = {"processes.comms.email", "processes.comms.html", "processes.comms.webhook"}
    names = ", ".join(name for name in PUBLIC if name != "__version__")  # importlib.metadata reads that, by `email`
    assert modules_after(f"from processes import {names}") & LOADED_WHEN_NEEDED == named


def test_webhook_loads_no_mail() -> None:
    """Who asks for one channel does not wait for the other."""
    loaded = modules_after("from processes import WebhookChannel, WebhookConfig; WebhookConfig('http://localhost')")
    assert not loaded & (LOADED_WHEN_NEEDED - {"processes.comms.webhook"})
    assert "processes.comms.webhook" in loaded


def test_loaded_modules_are_seen() -> None:
    """The look at loaded modules would find each of these."""
    assert modules_after("import " + ", ".join(sorted(LOADED_WHEN_NEEDED))) >= LOADED_WHEN_NEEDED


def test_public_names_are_these() -> None:
    """A public name comes or goes on purpose only, and each exists."""
    assert sorted(processes.__all__) == PUBLIC
    assert [name for name in PUBLIC if not hasattr(processes, name)] == []


def test_public_classes_do_not_tell_where_they_live() -> None:
    """Tracebacks and pickles name the package, so that a class may move inside it."""
    public = {name: getattr(processes, name) for name in processes.__all__}
    homes = {name: value.__module__ for name, value in public.items() if inspect.isclass(value)}
    assert homes == dict.fromkeys(homes, "processes")
    assert homes


def test_top_level_holds_nothing_else() -> None:
    """Besides these and dot-files, nothing lies at the top of the project."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    tracked = {path.partition("/")[0] for path in listed.split("\0") if path}
    assert {name for name in tracked if not name.startswith(".")} <= TOP_LEVEL
    assert tracked


def test_readme_tells_the_commands() -> None:
    """The main job and the tests are one command each, copied from README as it stands."""
    assert {MAIN_JOB, RUN_TESTS} <= set(stripped_lines("README.md"))


def test_ci_runs_the_command_of_the_readme() -> None:
    """CI tests what README tells, not something like it."""
    assert RUN_TESTS in stripped_lines(".ci/run")
