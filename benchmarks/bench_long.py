"""
Whether a program can go on for ever: what a million no-ops leave behind, in batches, and batches on one Process.

    python benchmarks/bench_long.py [--json FILE] [--quick]

Memory, descriptors, threads and loggers are those of the program from batch to batch, and those of its workers and
their keeper from the beginning of a batch to its end: both live as long as a batch.

Ends with a line for each threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import long_cases as cases
from harness import Bench, Case, Figures, verdict

#: How long all batches of one kind may take, in seconds: a million no-ops take less than a minute on a quiet machine.
TIMEOUT_S = 1200.0

#: What the program's memory may grow by a batch, and a worker's and a keeper's within one, in bytes a task. An object
#: that was kept for each task would be at least 16.
MEMORY_MAX = 8.0

COUNTED = ("descriptors", "threads", "loggers")
ROLES = ("parent", "keeper", "worker")


@dataclass(frozen=True)
class Batches:
    """One kind of batches: how many, and of how many no-ops."""

    what: str
    func: Callable[[int, int], Figures]
    batches: int
    count: int


FULL = (
    Batches("a Process for each batch", cases.batches_of_their_own, 50, 20_000),
    Batches("all batches on one Process", cases.batches_of_one_process, 20, 20_000),
)
QUICK = tuple(Batches(kind.what, kind.func, 4, 1_000) for kind in FULL)


def measure(bench: Bench, kind: Batches) -> list[str]:
    """Run the batches, print what they left, and return the thresholds' lines."""
    case = Case(kind.func.__name__, kind.func, (kind.batches, kind.count), timeout=TIMEOUT_S)
    (series,) = bench.alternate([case], 1).values()
    print(f"\n{kind.what}: {kind.batches} batches of {kind.count:,} no-ops, {cases.WORKERS} workers")
    if not series:
        return [verdict(f"{kind.what}: not measured", is_met=False)]
    figures = series[0].figures
    print(f"  {figures['tasks']:,.0f} tasks in {figures['seconds']:.0f} s, {cases.WARM_BATCHES} batches first included")
    print(f"  {'grows by':10} {'memory':>14} {'descriptors':>12} {'threads':>9} {'loggers':>9}")
    for role in ROLES:
        counts = [f"{figures[f'{role} {name}']:,.0f}" for name in COUNTED]
        print(
            f"  {role:10} {figures[f'{role} memory'] / kind.count:10,.2f} B/task"
            f" {counts[0]:>11} {counts[1]:>9} {counts[2]:>9}",
            flush=True,
        )
    return [line for role in ROLES for line in verdicts(kind, role, figures)]


def verdicts(kind: Batches, role: str, figures: Figures) -> list[str]:
    """Whether one of the processes grows."""
    memory = figures[f"{role} memory"] / kind.count
    left = {name: figures[f"{role} {name}"] for name in COUNTED}
    told = ", ".join(f"{count:g} {name}" for name, count in left.items())
    return [
        verdict(f"{kind.what}: {role} {memory:.2f} bytes a task, below {MEMORY_MAX:g}", is_met=memory < MEMORY_MAX),
        verdict(f"{kind.what}: {role} {told} more than before", is_met=max(left.values()) <= 0),
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a million no-ops and many batches leave behind.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    return parser.parse_args(arguments)


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    bench = Bench()
    bench.print_machine()
    lines = [line for kind in (QUICK if options.quick else FULL) for line in measure(bench, kind)]
    if options.quick:
        print("\n--quick: what is made once only weighs too much for the lines below to mean anything")
    print("", *lines, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_long", quick=options.quick, verdicts=lines)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
