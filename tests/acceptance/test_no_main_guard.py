"""No main guard is needed: scripts, standard input, `python -c`, a REPL; whatever `__main__` defines can travel."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.pools import every_method

# What each program does. METHOD and FOLDER come from its environment; main's body leaves a line in a file.
HEAD = """
import os
from processes import Process, ProcessPool, Task, TaskDependency
with open(os.path.join(os.environ["FOLDER"], "bodies"), "a") as bodies: print(os.getpid(), file=bodies)
pool = ProcessPool(2, start_method=os.environ["METHOD"])
"""

BODY = """
FACTOR = 3

class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return isinstance(other, Point) and self.x == other.x
    def __hash__(self): return hash(self.x)
    def moved(self, by): return Point(self.x + by)

class Special(Point):
    def moved(self, by): return Special(super().moved(by).x)

class Trouble(Exception): pass

def triple(number): return FACTOR * number
def recurse(number): return 1 if number == 0 else number * recurse(number - 1)
def make_adder(by): return lambda number: number + by
def move(point, by):
    assert isinstance(point, Point)
    return type(point)(point.x + by)
def same_class(kind, point): return kind is type(point) is Point
def build(kind): return kind(8)
def call(func, number): return func(number)
def many(points): return {point: [point] for point in points}
def fail(): raise Trouble("of __main__")

def takes(name): return [TaskDependency(name, use_result_as_additional_args=True)]
tasks = [
    Task("function", triple, args=(5,)),
    Task("recursive", recurse, args=(5,)),
    Task("lambda", lambda number: number * FACTOR, args=(4,)),
    Task("closure", make_adder(10), args=(1,)),
    Task("instance", move, args=(Point(1), 2)),
    Task("method", Point(1).moved, args=(4,)),
    Task("subclass", Special(1).moved, args=(5,)),
    Task("class", build, args=(Special,)),
    Task("same", same_class, args=(Point, Point(1))),
    Task("argument", call, args=(triple, 7)),
    Task("list", many, args=([Point(1), Point(2)],)),
    Task("passed_on", move, args=(), kwargs={"by": 5}, dependencies=takes("instance")),
    Task("returned", make_adder, args=(20,)),
    Task("used", call, args=(), kwargs={"number": 2}, dependencies=[TaskDependency("returned", False, True, "func")]),
    Task("builtin", sorted, args=([3, 1, 2],)),
    Task("fails", fail),
    Task("retried", fail, retries=2, retry_on=(Trouble,)),
]
process = Process(tasks)
report = process.run(pool)
got = {name: entry.result for name, entry in report.successes.items()}
assert got.pop("returned")(1) == 21
expected = dict(
    function=15, recursive=120, closure=11, instance=Point(3), method=Point(5), subclass=Special(6), same=True,
    argument=21, list={Point(1): [Point(1)], Point(2): [Point(2)]}, passed_on=Point(8), used=22, builtin=[1, 2, 3],
)
expected["lambda"], expected["class"] = 12, Special(8)
assert got == expected, (got, [entry.error and entry.error.traceback_str for entry in report.entries.values()])
assert type(got["class"]) is Special and type(got["subclass"]) is Special and type(got["instance"]) is Point
assert report.entries["fails"].error.exception_type.endswith("Trouble")
assert report.entries["retried"].attempts == 3
print("all right")
"""

PROGRAM = HEAD + BODY


def environment(folder: Path, method: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "FOLDER": str(folder),
        "METHOD": method,
        "TERM": "dumb",
    }


def check_ran(folder: Path, command: list[str], method: str, *, given: str | None = None) -> None:
    child = subprocess.run(
        command,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environment(folder, method),
        check=False,
    )
    assert (child.stdout, child.stderr, child.returncode) == ("all right\n", "", 0)
    assert len((folder / "bodies").read_text().splitlines()) == 1


@every_method
def test_script_without_guard_runs_its_body_once(method: str, tmp_path: Path) -> None:
    """Functions, lambdas, closures, classes and instances of `__main__` go to children and come back the same."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    check_ran(tmp_path, [sys.executable, str(script)], method)


PLACE = """
import os
from processes import Process, ProcessPool, Task
def fail(number):
    mine = number
    raise ValueError("no such luck")
task = Task("a", fail, args=(3,), traced_vars_frame_filter="script")
error = Process([task]).run(ProcessPool(1, start_method=os.environ["METHOD"])).entries["a"].error
assert error.traced_vars_location == f"{os.path.abspath(__file__)}:6", error.traced_vars_location
assert error.traced_vars == {"number": "3", "mine": "3"}
assert 'raise ValueError("no such luck")' in error.traceback_str, error.traceback_str
open("bodies", "a").write("body\\n")
print("all right")
"""


@every_method
def test_failure_of_a_script_has_its_place(method: str, tmp_path: Path) -> None:
    """12.3, 12.4: file, line and source line of a function that went to the child by value; a filter finds the file."""
    script = tmp_path / "script.py"
    script.write_text(PLACE)
    check_ran(tmp_path, [sys.executable, str(script)], method)


@every_method
def test_script_on_standard_input(method: str, tmp_path: Path) -> None:
    """`python - < script`."""
    check_ran(tmp_path, [sys.executable, "-"], method, given=PROGRAM)


@every_method
def test_program_on_the_command_line(method: str, tmp_path: Path) -> None:
    """`python -c`."""
    check_ran(tmp_path, [sys.executable, "-c", PROGRAM], method)


def test_module_run_by_name(tmp_path: Path) -> None:
    """`python -m package.module`, whose `__main__` has a name that children could import by mistake."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "module.py").write_text(PROGRAM)
    check_ran(tmp_path, [sys.executable, "-m", "package.module"], "forkserver")


def test_folder_with_a_main_file(tmp_path: Path) -> None:
    """`python folder`."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text(PROGRAM)
    check_ran(tmp_path, [sys.executable, "app"], "forkserver")


BESIDE = """
from processes import Process, ProcessPool, Task
from helper import double
print(Process([Task("t", double, args=(4,))]).run(ProcessPool(1)).entries["t"].result)
"""


@pytest.mark.parametrize("how", ["script", "-c"])
def test_module_beside_the_script_is_found_by_children(how: str, tmp_path: Path) -> None:
    """The script's folder, or "" for the working folder, is on the children's sys.path too."""
    (tmp_path / "helper.py").write_text("def double(number): return 2 * number\n")
    (tmp_path / "script.py").write_text(BESIDE)
    command = [sys.executable, *(["script.py"] if how == "script" else ["-c", BESIDE])]
    child = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path, "forkserver"), check=False
    )
    assert (child.stdout, child.stderr) == ("8\n", "")


class Repl:
    """An interpreter on a pseudo-terminal, as a user sees it."""

    def __init__(self, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        # PYTHON_BASIC_REPL: from Python 3.13 on the new one would edit lines and color them.
        self._child = subprocess.Popen(
            [sys.executable, "-q", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**env, "PYTHON_BASIC_REPL": "1", "NO_COLOR": "1"},
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        """Wait for a text."""
        give_up_at = time.monotonic() + 40
        while wanted not in self.text:
            ready, _, _ = select.select([self._master], [], [], max(0.0, give_up_at - time.monotonic()))
            if not ready:
                message = f"{wanted!r} did not come: {self.text}"
                raise TimeoutError(message)
            try:
                self.text += os.read(self._master, 65536).decode()
            except OSError:  # EIO: it has ended
                break
        before, found, after = self.text.partition(wanted)
        assert found, before
        self.text = after

    def enter(self, line: str) -> None:
        """Type a line, at the prompt."""
        self.read_until(">>> ")
        os.write(self._master, line.encode() + b"\n")

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
        os.close(self._master)


@every_method
def test_repl_runs_what_was_typed(method: str, tmp_path: Path) -> None:
    """Functions and classes typed at the prompt work, and the session goes on: children do not read the terminal."""
    repl = Repl(environment(tmp_path, method))
    try:
        repl.enter("import os; from processes import Process, ProcessPool, Task")
        repl.enter("pool = ProcessPool(2, start_method=os.environ['METHOD'])")
        repl.enter("def double(number): return 2 * number\n")
        repl.enter("class Point: pass\n")
        repl.enter("tasks = [Task('a', double, args=(21,)), Task('b', lambda: Point()), Task('c', input)]")
        repl.enter("report = Process(tasks).run(pool)")
        repl.enter("print('answer', report.entries['a'].result)")
        repl.read_until("answer 42")
        repl.enter("print('same', isinstance(report.entries['b'].result, Point))")
        repl.read_until("same True")
        repl.enter("print('input', report.entries['c'].error.exception_type)")
        repl.read_until("input EOFError")
        repl.enter("def double(number): return 200 * number\n")
        repl.enter("print('again', Process([Task('a', double, args=(2,))]).run(pool).entries['a'].result)")
        repl.read_until("again 400")
    finally:
        repl.close()


CLOSED_STREAMS = """
import os, sys
from processes import Process, ProcessPool, Task
pool = ProcessPool(2, start_method=os.environ["METHOD"])
report = Process([Task(f"t{n}", lambda n: n * n, args=(n,)) for n in range(20)]).run(pool)
assert [entry.result for entry in report.entries.values()] == [n * n for n in range(20)]
open(os.path.join(os.environ["FOLDER"], "done"), "w").close()
"""


@every_method
def test_program_without_standard_streams(method: str, tmp_path: Path) -> None:
    """A program that was started with descriptors 0 to 2 closed, as a daemon may be, runs its tasks."""
    shell = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, CLOSED_STREAMS]
    subprocess.run(shell, timeout=60, env=environment(tmp_path, method), check=True)
    assert (tmp_path / "done").exists()
