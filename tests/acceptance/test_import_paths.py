"""Programs written for 7.0.4 find every name where it was."""

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import processes

#: What 7.0.4's top had.
TOP = {
    "CircularDependencyError",
    "DependencyNotFoundError",
    "EmailChannel",
    "ErrorData",
    "HTMLEmailStyle",
    "Process",
    "ProcessExecutionReport",
    "ReportChannel",
    "ReportContent",
    "SMTPConfig",
    "Task",
    "TaskDependency",
    "TaskNotFoundError",
    "TaskReportEntry",
    "TaskResult",
    "TaskStatus",
    "WebhookChannel",
    "WebhookConfig",
    "__version__",
}

COMMS = {
    "EmailChannel",
    "HTMLEmailStyle",
    "ReportChannel",
    "ReportContent",
    "SMTPConfig",
    "WebhookChannel",
    "WebhookConfig",
}

#: {a module of 7.0.4: the names it had for its users}
PATHS = {
    "processes.comms": COMMS,
    "processes.comms.base": {"ReportChannel", "ReportContent"},
    "processes.comms.channels": {"EmailChannel", "ReportChannel", "ReportContent", "WebhookChannel"},
    "processes.comms.email_config": {"HTMLEmailStyle", "SMTPConfig"},
    "processes.comms.webhook_config": {"WebhookConfig"},
    "processes.error_data": {"ErrorData"},
    "processes.exceptions": {"CircularDependencyError", "DependencyNotFoundError", "TaskNotFoundError"},
    "processes.execution_report": {"ProcessExecutionReport", "TaskReportEntry", "TaskStatus"},
    "processes.process": {"Process"},
    "processes.task": {"Task", "TaskDependency", "TaskResult", "TaskStatus"},
    "processes.task_types": {"TaskDependency", "TaskResult", "TaskStatus"},
}


#: What the top has beside them.
NEW = {
    "AttemptRecord",
    "Delivery",
    "ExceptionData",
    "FigureChange",
    "FrameData",
    "MemoryLimitError",
    "ProcessPool",
    "ProcessesError",
    "RemoteTaskError",
    "ReportComparison",
    "ReportDeliveryError",
    "RunFinished",
    "RunInfo",
    "RunStarted",
    "RunTerminated",
    "TaskCheckError",
    "TaskFailedError",
    "TaskFinished",
    "TaskRetried",
    "TaskStarted",
    "TaskTimeoutError",
    "UnpicklableError",
    "Usage",
    "WorkerCrashedError",
    "WorkerStartError",
}


def test_top_has_the_names_of_7_0_4_and_those_that_are_new() -> None:
    """1.2: all nineteen, and a star import gives them; no name becomes public, or is lost, by accident."""
    assert len(TOP) == 19
    assert set(processes.__all__) == TOP | NEW
    assert [name for name in TOP | NEW if not hasattr(processes, name)] == []


@pytest.mark.parametrize("path", PATHS)
def test_path_of_7_0_4_gives_the_same_objects(path: str) -> None:
    """A name imported from where it was is the one of the top."""
    module = importlib.import_module(path)
    assert {name: getattr(module, name) for name in PATHS[path]} == {
        name: getattr(processes, name) for name in PATHS[path]
    }


@pytest.mark.parametrize("path", PATHS)
def test_path_of_7_0_4_can_be_imported_first(path: str) -> None:
    """In a fresh interpreter, before anything else of the package."""
    name = min(PATHS[path])
    program = f"from {path} import {name}; print({name}.__name__)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (child.stdout, child.stderr) == (f"{name}\n", "")


def test_runner_is_where_it_was() -> None:
    """`process.runner` is of a class that has no name at the top, as ever."""
    from processes.process import ProcessRunner

    assert isinstance(processes.Process([processes.Task("a", len)]).runner, ProcessRunner)
    assert "ProcessRunner" not in processes.__all__


@pytest.mark.parametrize("name", sorted(COMMS))
def test_lazy_name_is_a_public_class_like_the_others(name: str) -> None:
    """It is loaded when it is asked for, calls itself `processes.Name`, and pickles by that name."""
    value = getattr(processes, name)
    assert inspect.isclass(value)
    assert value.__module__ == "processes"
    assert f"cprocesses\n{name}\n".encode() in pickle.dumps(value, 0)


def test_names_are_listed_before_they_are_loaded() -> None:
    """`dir` tells a REPL what there is to complete."""
    program = "import processes, processes.comms; print(*dir(processes), *dir(processes.comms))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    listed = child.stdout.split()
    assert [listed.count(name) for name in sorted(COMMS)] == [2] * len(COMMS)


@pytest.mark.parametrize("module", [processes, importlib.import_module("processes.comms")])
def test_missing_name_is_an_attribute_error(module: object) -> None:
    """It names the module and the name."""
    with pytest.raises(AttributeError, match=r"module 'processes.*' has no attribute 'missing'"):
        module.missing  # type: ignore[attr-defined]  # noqa: B018
