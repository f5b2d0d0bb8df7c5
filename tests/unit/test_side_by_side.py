"""Tests that are run by several processes at a time are each run once, and every failure is told."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.pools import START_METHODS
from support.side_by_side import alone_in_shared_memory, is_for_this_python, is_in_share

TESTS = Path(__file__).parents[1]
FEW = """
import pytest

@pytest.mark.parametrize("number", range(20))
def test_passes(number):
    pass

def test_fails():
    assert not "what went wrong"
"""


def run(folder: Path, *arguments: str, few: str = FEW) -> subprocess.CompletedProcess[str]:
    """Run the few tests in two processes, which load no plugin: pytest's own do."""
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\n")
    (folder / "test_few.py").write_text(few)
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from support.side_by_side import run"
    command = [sys.executable, "-c", f"{script}; sys.exit(run(sys.argv[1:], 2))", *arguments]
    env = os.environ | {"TMPDIR": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def passed(result: subprocess.CompletedProcess[str]) -> int:
    """The sum of the closing lines."""
    closing = [line.split() for line in result.stdout.splitlines() if line.startswith("=") and " in " in line]
    assert len(closing) == 2, result.stdout + result.stderr
    return sum(int(words[words.index("passed,") - 1]) for words in closing if "passed," in words)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_share_of_a_test_is_one(count: int) -> None:
    """No test is left out or run twice, and no share of many is empty."""
    shares = [f"{number}/{count}" for number in range(1, count + 1)]
    of_each = [[share for share in shares if is_in_share(f"test_{number}[ü\ud800]", share)] for number in range(200)]
    assert {len(shares) for shares in of_each} == {1}
    assert {share for [share] in of_each} == set(shares)


def test_each_start_method_is_run_on_the_oldest_python_and_on_one_of_two_others() -> None:
    """Of spawn and fork the next Python runs the one that was left out; of many tests both are."""
    names = [f"test_{number}[ü\ud800]" for number in range(200)]
    run_by = {
        (name, minor): {method for method in (*START_METHODS, None) if is_for_this_python(name, method, (3, minor))}
        for name in names
        for minor in (11, 12, 13)
    }
    for name in names:
        assert run_by[name, 11] == {"forkserver", "spawn", "fork", None}
        assert run_by[name, 12] | run_by[name, 13] == {"forkserver", "spawn", "fork", None}
        assert run_by[name, 12] & run_by[name, 13] == {"forkserver", None}
    assert len({frozenset(run_by[name, 12]) for name in names}) == 2


def test_side_by_side_tells_a_failure_wherever_it_was(tmp_path: Path) -> None:
    """The exit code is that of a failure though other processes had none."""
    result = run(tmp_path)
    assert (result.returncode, passed(result)) == (1, 20)
    assert result.stdout.count("\nFAILED test_few.py::test_fails") == 1


def test_side_by_side_passes_when_all_that_were_selected_did(tmp_path: Path) -> None:
    """Arguments go to each process, and a process without a test is no failure."""
    result = run(tmp_path, "-k", "test_passes and 7")
    assert (result.returncode, passed(result)) == (0, 2)


def test_side_by_side_without_a_test_is_no_success(tmp_path: Path) -> None:
    """As with pytest itself, exit code 5."""
    assert run(tmp_path, "-k", "nothing").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_side_by_side_refuses_a_name_that_changes(tmp_path: Path) -> None:
    """A test that is named for an address would belong to no share, or to several."""
    few = FEW.replace("range(20)", "[object()], ids=repr")
    result = run(tmp_path, few=few)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_few.py::test_passes[<object object at 0x" in result.stderr


def test_side_by_side_has_shared_memory_of_its_own(tmp_path: Path) -> None:
    """What others have in /dev/shm is not seen."""
    if not alone_in_shared_memory():
        pytest.skip("mounts of its own are not allowed here")
    few = 'import os\ndef test_is_empty(): assert os.listdir("/dev/shm") == []\n'
    path = Path(f"/dev/shm/processes-test-{os.getpid()}")
    with open(path, "wb+") as file:
        file.truncate(mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), mmap.PAGESIZE):  # in use, so that no tests which run beside are blamed for it
            result = run(tmp_path, few=few)
        path.unlink()
    assert (result.returncode, result.stdout.count(" 1 passed")) == (0, 1), result.stdout


def test_side_by_side_hides_test_modules_from_children(tmp_path: Path) -> None:
    """They would import pytest for it."""
    few = """
import sys
from processes import Process, ProcessPool, Task

def modules():
    return __name__, "pytest" in sys.modules

def test_modules():
    report = Process([Task("a", modules)]).run(ProcessPool(1))
    assert report.entries["a"].result == (__name__, False)
"""
    result = run(tmp_path, few=few)
    assert (result.returncode, result.stdout.count(" 1 passed")) == (0, 1), result.stdout
