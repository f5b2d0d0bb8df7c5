"""What `from processes import *` gives."""

import inspect
import pickle
import subprocess
import sys

import processes
from support.pools import results, run


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
