"""
Who survives what: faults in one of 19 calls, given to this library and to others as they are shipped.

    python benchmarks/bench_faults.py [--systems NAME ...] [--faults WORD ...] [--json FILE] [--quick]

A system meets a fault when the batch has ended within LIMIT_S, only the faulty call has failed, its error names the
cause, every other call has its right result, the same pool makes further calls, the program ends, and no process, no
shared memory and no temporary file is left. Each try is a program of its own, which is killed with all that it started.

What is not met is told by kind: *collateral* other calls lost or wrong, *blame* the faulty call succeeded or its error
says something else, *hang* no end in time, *unusable* no further calls, *exit* the program does not end by itself,
*died* it was taken along, *processes* or *files* left behind; "-" is for a system without time-outs.

Exits with 0 whatever was found.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fault_cases import BEFORE, FAULTS, SYSTEMS, WITH_TIMEOUTS, Fault, Outcome, calls_of
from harness import machine

#: How long a batch of the faulty call and 18 others may take, in seconds: without a fault it takes less than one.
LIMIT_S = 15.0

#: How long a program that has all it wants may take to end, and what it started after it, in seconds.
EXIT_S, LEFT_S = 5.0, 2.0

#: Distributions of the systems that are not in the standard library.
DISTRIBUTIONS = {
    "processes": "processes",
    "loky": "loky",
    "joblib": "joblib",
    "pebble": "Pebble",
    "mpire": "mpire",
    "distributed": "distributed",
}

_MARK = "PROCESSES_BENCH_FAULTS"


def marked(mark: str) -> list[int]:
    """Living processes that were started by a try, wherever they are by now."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{name}/environ").read_bytes()
            state = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()[0]
            if f"{_MARK}={mark}".encode() in environment.split(b"\0") and state not in b"ZX":
                found.append(int(name))
    return found


def kill_all(mark: str) -> None:
    """Until there are none: some start others."""
    give_up_at = time.monotonic() + 10
    while (pids := marked(mark)) and time.monotonic() < give_up_at:
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def wait_until_gone(mark: str, seconds: float) -> list[int]:
    """Those that are left after so long."""
    give_up_at = time.monotonic() + seconds
    while (pids := marked(mark)) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return pids


def shared_by(program: int) -> list[Path]:
    """Shared memory that has the program's id in its name, as joblib and loky name theirs: nobody else's."""
    return [path for path in Path("/dev/shm").iterdir() if re.search(rf"(?<!\d){program}(?!\d)", path.name)]


def remove(paths: list[Path]) -> None:
    """What a try has left."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)


def lines_of(path: Path) -> list[str]:
    """Whole lines of JSON that the program has written so far, whatever else its children wrote."""
    return [
        line
        for line in path.read_text(errors="replace").splitlines(keepends=True)
        if line[:2] == "[[" and line[-1] == "\n"
    ]


def try_out(system: str, fault_name: str) -> tuple[list[str], float]:
    """What is not met, and the seconds until the batch had ended."""
    with tempfile.TemporaryDirectory(prefix="bench-faults-", ignore_cleanup_errors=True) as folder:
        own = Path(folder, "tmp")
        own.mkdir()
        mark, output = Path(folder).name, Path(folder, "output")
        environment = {**os.environ, _MARK: mark, "TMPDIR": str(own)}
        with open(output, "wb") as out, open(Path(folder, "errors"), "wb") as errors:
            program = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("fault_cases.py")), system, fault_name],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
            try:
                found, seconds = judge(program, output, FAULTS[fault_name])
                if program.poll() is not None:
                    if wait_until_gone(mark, LEFT_S):
                        found.append("processes")
                    if os.listdir(own) or shared_by(program.pid):
                        found.append("files")
            finally:
                kill_all(mark)
                program.wait()
                remove(shared_by(program.pid))
    return found, seconds


def judge(program: subprocess.Popen[bytes], output: Path, fault: Fault) -> tuple[list[str], float]:
    """Follow a program to its end, or to the end of our patience."""
    started = time.monotonic()
    lines = wait_for_lines(program, output, 1, LIMIT_S)
    seconds = time.monotonic() - started
    if not lines:
        return ["hang" if program.poll() is None else "died"], seconds
    found = list(differences(fault, json.loads(lines[0])))
    lines = wait_for_lines(program, output, 2, EXIT_S)
    if len(lines) < 2 or json.loads(lines[1]) != [["ok", 0], ["ok", 1], ["ok", 2]]:
        found.append("unusable")
    try:
        program.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        found.append("exit")
    return found, seconds


def wait_for_lines(program: subprocess.Popen[bytes], output: Path, count: int, seconds: float) -> list[str]:
    """So many lines, or fewer where they do not come."""
    give_up_at = time.monotonic() + seconds
    while True:
        has_ended = program.poll() is not None
        lines = lines_of(output)
        if len(lines) >= count or has_ended or time.monotonic() > give_up_at:
            return lines
        time.sleep(0.02)


def differences(fault: Fault, outcomes: list[Outcome]) -> Iterator[str]:
    """What is wrong with what became of the calls."""
    expected = [["ok", args[0] if args else fault.after and fault.after[1]] for _, args in calls_of(fault)]
    others = [outcome for place, outcome in enumerate(outcomes) if place != BEFORE]
    if others != [outcome for place, outcome in enumerate(expected) if place != BEFORE]:
        yield "collateral"
    status, text = outcomes[BEFORE]
    is_right = (
        status == "error" and re.search(fault.error, str(text).lower()) is not None
        if fault.error
        else [status, text] == ["ok", fault.result]
    )
    if not is_right:
        yield "blame"


def measure(systems: list[str], faults: list[str]) -> dict[str, dict[str, dict[str, object]]]:
    """{fault: {system: what is not met, and seconds}}"""
    table: dict[str, dict[str, dict[str, object]]] = {}
    for fault in faults:
        table[fault] = {}
        for system in systems:
            if FAULTS[fault].hangs and system not in WITH_TIMEOUTS:
                continue
            found, seconds = try_out(system, fault)
            table[fault][system] = {"not_met": found, "seconds": round(seconds, 2)}
            print(f"{fault:44} {system:22} {', '.join(found) or 'ok':34} {seconds:6.2f} s", flush=True)
    return table


def print_table(systems: list[str], table: dict[str, dict[str, dict[str, object]]]) -> None:
    """As Markdown."""
    print("\n| fault | " + " | ".join(systems) + " |\n|" + "---|" * (len(systems) + 1))
    for fault, row in table.items():
        cells = [", ".join(row[system]["not_met"]) or "ok" if system in row else "-" for system in systems]
        print(f"| {fault} | " + " | ".join(cells) + " |")
    counts = [[not row[system]["not_met"] for row in table.values() if system in row] for system in systems]
    print("| **met** | " + " | ".join(f"{sum(met)} of {len(met)}" for met in counts) + " |")


def versions(systems: list[str]) -> dict[str, str]:
    """Of those that are not part of Python."""
    found = {}
    for system in systems:
        if system in DISTRIBUTIONS:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[system] = importlib.metadata.version(DISTRIBUTIONS[system])
    return found


def is_there(system: str) -> bool:
    """Whether it can be imported here."""
    return system not in DISTRIBUTIONS or importlib.util.find_spec(system) is not None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Who survives what.")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), help="only these")
    parser.add_argument("--faults", nargs="+", metavar="WORD", default=[""], help="only those whose names have one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the table and the machine here")
    parser.add_argument("--quick", action="store_true", help="a few faults, to see that all of it works")
    return parser.parse_args(arguments)


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    words = ["no fault", "SIGKILL)", "sys.exit", "two arguments"] if options.quick else options.faults
    systems = [system for system in options.systems if is_there(system)]
    faults = [name for name in FAULTS if any(word in name for word in words)]
    facts = machine()
    print(
        f"{facts['kernel']}, {facts['python']}, {facts['usable_cpus']} CPUs, load {facts['load']}, {versions(systems)}"
    )
    for system in sorted(set(options.systems) - set(systems)):
        print(f"{system} is not here")
    table = measure(systems, faults)
    print_table(systems, table)
    if options.json is not None:
        document = {"benchmark": "bench_faults", "machine": facts, "versions": versions(systems), "faults": table}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
