"""Only the Pythons whose tests ran in this call of tox are told."""

import platform
import subprocess
import sys
from pathlib import Path

from support import ran


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script. The test is its parent, as if it were tox."""
    command = [sys.executable, ran.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_ran_prints_what_this_call_recorded(tmp_path: Path) -> None:
    """What an environment recorded is the last line of the output."""
    assert run(tmp_path / "ran", "--record", "py").returncode == 0
    result = run(tmp_path / "ran")
    assert (result.returncode, result.stdout) == (0, f"Tests ran on: {platform.python_version()}\n")


def test_ran_fails_when_nothing_was_recorded(tmp_path: Path) -> None:
    """No tests are no success."""
    result = run(tmp_path / "ran")
    assert (result.returncode, result.stderr) == (1, "Tests ran on no Python.\n")


def test_ran_leaves_out_earlier_calls(tmp_path: Path) -> None:
    """A Python that is gone since an earlier call is not told."""
    ran.record(tmp_path, "py", "1@earlier")
    assert run(tmp_path).returncode == 1


def test_ran_sorts_by_version(tmp_path: Path) -> None:
    """3.9 is older than 3.11, and a release candidate is a version."""
    for version in ("3.14.0rc1", "3.9.1", "3.11.7"):
        (tmp_path / version).write_text(f"this {version}\n")
    assert ran.recorded(tmp_path, "this") == ["3.9.1", "3.11.7", "3.14.0rc1"]
