"""Tests that are run by several processes at a time are each run once, and every failure is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.side_by_side import is_in_share

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
    """Run the few tests in three processes."""
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {TESTS}\n")
    (folder / "test_few.py").write_text(few)
    script = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from support.side_by_side import run"
    command = [sys.executable, "-c", f"{script}; sys.exit(run(sys.argv[1:], 3))", *arguments]
    env = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def passed(result: subprocess.CompletedProcess[str]) -> int:
    """The sum of the closing lines."""
    closing = [line.split() for line in result.stdout.splitlines() if line.startswith("=") and " in " in line]
    assert len(closing) == 3, result.stdout + result.stderr
    return sum(int(words[words.index("passed,") - 1]) for words in closing if "passed," in words)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_share_of_a_test_is_one(count: int) -> None:
    """No test is left out or run twice, and no share of many is empty."""
    shares = [f"{number}/{count}" for number in range(1, count + 1)]
    of_each = [[share for share in shares if is_in_share(f"test_{number}[ü\ud800]", share)] for number in range(200)]
    assert {len(shares) for shares in of_each} == {1}
    assert {share for [share] in of_each} == set(shares)


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
