"""The programs in `tests/typing`, which type checkers look at, do what their types say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted(Path(__file__).parents[1].joinpath("typing").glob("*.py"))


@pytest.mark.parametrize(
    "program", [path for path in PROGRAMS if path.name != "mistakes.py"], ids=lambda path: path.name
)
def test_program_runs_as_its_types_say(program: Path, tmp_path: Path) -> None:
    """It compares what it got with what it should get."""
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
