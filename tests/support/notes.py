"""
What tasks leave in files for tests and for each other: that they have come so far, and who they are.

Imported by every child of many tests, so it imports next to nothing.
"""

import os
import time
from pathlib import Path

#: A fail-safe that no passing test meets, in seconds.
WAIT_S = 30.0


def note_pid(folder: str, name: str) -> None:
    """Leave this process's id in a file, which is complete as soon as it is there."""
    part = Path(folder, name + ".part")
    part.write_text(str(os.getpid()))
    part.rename(Path(folder, name))


def wait_for_file(path: Path) -> str:
    """
    What the file holds, once it holds something: a moment after it is made it is still empty.

    Raises:
        TimeoutError: It never came.
    """
    give_up_at = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_at:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)
    message = f"{path} is not there after {WAIT_S} s; this is process {os.getpid()}"
    raise TimeoutError(message)
