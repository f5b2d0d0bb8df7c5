"""A program whose task never ends comes to its own end."""

import subprocess
import sys

import pytest

ENDLESS = """
import sys, threading
from processes import Process, Task

def wait():
    threading.Event().wait()

def spin():
    while True:
        pass

tasks = [Task("waits", wait, timeout=0.05), Task("spins", spin, timeout=0.05), Task("fine", len, args=("1",))]
report = Process(tasks).run(None if sys.argv[1] == "sequential" else sys.argv[1], 2)
print(*(entry.status.value for entry in report.entries.values()))
"""


@pytest.mark.parametrize("mode", ["sequential", "threads", "processes"])
def test_program_ends_though_a_task_never_does(mode: str) -> None:
    """A2: what was left behind at a time-out does not keep the interpreter alive."""
    command = [sys.executable, "-c", ENDLESS, mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("errored errored success\n", "")
