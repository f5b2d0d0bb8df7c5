"""What `from processes import *` gives, and where a program written for 7.0.4 looks for it."""

import importlib
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import processes
from processes.process import ProcessRunner
from support.pools import results, run

#: Where 7.0.4 had its names.
OLD_HOMES = {
    "processes.error_data": ["ErrorData"],
    "processes.exceptions": ["CircularDependencyError", "DependencyNotFoundError", "TaskNotFoundError"],
    "processes.execution_report": ["ProcessExecutionReport", "TaskReportEntry", "TaskStatus"],
    "processes.process": ["Process"],
    "processes.task": ["Task", "TaskDependency", "TaskResult", "TaskStatus"],
    "processes.task_types": ["TaskDependency", "TaskResult", "TaskStatus"],
}

#: Parameters of 7.0.4, which programs give by position or by name.
OLD_PARAMETERS: list[tuple[Callable[..., object], str]] = [
    (
        processes.Task,
        "name func log_path args kwargs dependencies traced_vars_frame_filter timeout retries retry_on",
    ),
    (processes.Task.run, "self executing_process"),
    (
        processes.TaskDependency,
        "task_name use_result_as_additional_args use_result_as_additional_kwargs additional_kwarg_name",
    ),
    (processes.TaskResult, "status result exception error_data elapsed_seconds attempts"),
    (
        processes.ErrorData,
        "task_name function args kwargs downstream_impact exception traceback_str traced_vars traced_vars_location",
    ),
    (processes.Process, "tasks name"),
    (processes.Process.add_task, "self task"),
    (processes.Process.add_task_dependency, "self task_name dependency"),
    (processes.Process.run, "self parallel max_workers"),
    (ProcessRunner, "process_ref"),
    (ProcessRunner.run, "self parallel max_workers"),
    (processes.ProcessExecutionReport, "entries process_name"),
    (processes.ProcessExecutionReport.from_results, "process results"),
    (processes.ProcessExecutionReport.to_json, "self indent dumps_kwargs"),
    (processes.TaskReportEntry, "name function args kwargs status elapsed_seconds attempts result error"),
    (processes.DependencyNotFoundError, "task_name missing_dep"),
    (processes.TaskNotFoundError, "task_name"),
]


def test_star_import_gives_the_public_names() -> None:
    """All of them, sorted, and nothing that starts with an underscore but the version."""
    names: dict[str, object] = {}
    exec("from processes import *", names)  # noqa: S102  a star import is allowed at a module's top only
    assert set(processes.__all__) == {name for name in names if name != "__builtins__"}
    assert list(processes.__all__) == sorted(processes.__all__)


def test_public_names_have_docstrings_and_say_where_they_are() -> None:
    """A class calls itself `processes.Name`, and is found there by pickle."""
    for name in processes.__all__:
        value = getattr(processes, name)
        if inspect.isclass(value):
            assert value.__module__ == "processes", name
            assert inspect.getdoc(value), name
            assert pickle.loads(pickle.dumps(value)) is value


def test_import_is_quiet_and_starts_nothing() -> None:
    """Importing the package prints nothing, starts no thread and no process."""
    program = "import processes, threading, os; print(threading.active_count(), len(os.listdir('/proc/self/task')))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (child.stdout, child.stderr) == ("1 1\n", "")


def test_graph_runs_from_public_names_alone() -> None:
    """Tasks, a dependency, a pool, a report."""
    tasks = [
        processes.Task("numbers", list, args=((1, 2, 3),)),
        processes.Task(
            "sum", sum, dependencies=[processes.TaskDependency("numbers", use_result_as_additional_args=True)]
        ),
    ]
    assert results(run(tasks, processes.ProcessPool(2))) == {"numbers": [1, 2, 3], "sum": 6}


@pytest.mark.parametrize("module", OLD_HOMES)
def test_module_of_old_has_its_names(module: str) -> None:
    """1.3: what a program imports from a module of 7.0.4 is the public class."""
    home = importlib.import_module(module)
    for name in OLD_HOMES[module]:
        assert getattr(home, name) is getattr(processes, name), name


def test_module_of_the_process_has_its_runner() -> None:
    """1.3: the class of `process.runner` can be imported."""
    assert type(processes.Process([]).runner) is importlib.import_module("processes.process").ProcessRunner


@pytest.mark.parametrize("method", ["get_task", "get_dependant_tasks", "remove_task"])
def test_task_is_looked_up_by_the_parameter_of_old(method: str) -> None:
    """7.0.4's programs may write `task_name=`."""
    process = processes.Process([processes.Task("a", len)])
    getattr(process, method)(task_name="a")


@pytest.mark.parametrize(
    ("function", "names"), OLD_PARAMETERS, ids=[function.__qualname__ for function, _ in OLD_PARAMETERS]
)
def test_parameters_of_old_come_first(function: Callable[..., object], names: str) -> None:
    """Parameters keep their names and their order; what is new follows them and can be left out."""
    old = names.split()
    parameters = list(inspect.signature(function).parameters.values())
    assert [parameter.name for parameter in parameters[: len(old)]] == old
    assert all(parameter.default is not parameter.empty for parameter in parameters[len(old) :])


def test_version_is_that_of_the_installed_package() -> None:
    """1.2: also where the package was imported long before."""
    assert processes.__version__ == metadata.version("processes")


def test_version_of_a_package_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.2: a copy on sys.path has no metadata, and works."""

    def find_none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    assert processes.__version__ != "0.0.0-unknown"
    monkeypatch.delitem(vars(processes), "__version__", raising=False)  # It may be kept once it was asked for.
    monkeypatch.setattr(metadata, "version", find_none)
    assert processes.__version__ == "0.0.0-unknown"


def test_package_tells_what_it_needs_and_that_it_is_typed() -> None:
    """1.1: Python 3.11, two libraries where 7.0.4 had none, the licence, and the mark for type checkers."""
    told = metadata.metadata("processes")
    assert (told["Requires-Python"], told["License-Expression"]) == (">=3.11", "MIT")
    assert metadata.requires("processes") == ["cloudpickle", "psutil"]
    assert Path(processes.__file__).with_name("py.typed").is_file()
