"""
Tells which Pythons ran the tests in one call of tox.

The environment of each Python, once its tests have passed, records its version:
`ran.py FOLDER --record ENVIRONMENT`. The one that comes last prints what was recorded: `ran.py FOLDER`. Its
exit code is 1 when there was nothing.

A record says by which call of tox it was made, because the folder still holds those of earlier calls, also of
a Python that is gone since. Standard library only: the last environment has nothing else.
"""

import argparse
import os
import platform
import sys
from pathlib import Path


def tox_call() -> str:
    """
    The call of tox that started this script, unlike any other: its process id and when it started.

    Source: field 22 of /proc/PID/stat, in clock ticks since boot, proc(5). The command's name, field 2, ends
    with the last closing parenthesis.
    """
    tox = os.getppid()
    after_name = Path(f"/proc/{tox}/stat").read_text(encoding="utf-8").rpartition(")")[2]
    return f"{tox}@{after_name.split()[19]}"


def record(folder: Path, environment: str, call: str) -> None:
    """Note that the tests have passed on the Python that runs this."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / environment).write_text(f"{call} {platform.python_version()}\n", encoding="utf-8")


def recorded(folder: Path, call: str) -> list[str]:
    """The versions that were recorded by this call of tox, oldest first."""
    records = [path.read_text(encoding="utf-8").split() for path in folder.glob("*")]
    versions = {version for made_by, version in records if made_by == call}
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")[:2]])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--record", metavar="ENVIRONMENT")
    options = parser.parse_args()
    if options.record:
        record(options.folder, options.record, tox_call())
        return 0
    versions = recorded(options.folder, tox_call())
    if not versions:
        print("Tests ran on no Python.", file=sys.stderr)
        return 1
    print("Tests ran on:", ", ".join(versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
