"""
What a failing task costs, with its traceback, its locals and its exception: ours, and the standard library's two pools.

    python benchmarks/bench_failure.py [--tasks N] [--repeats R] [--json FILE] [--quick]

N calls fail three frames deep and each failure is looked at. Ours are cold: the start of their children is part of the
run, and they capture locals, which the others do not have. The others are warm.

Ends with a line for the threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import failure_cases as cases
from harness import Bench, Case, Spread, figures_of, ratios

#: Seconds that a failing task may cost.
FAILURE_S_MAX = 0.001

TASKS, QUICK_TASKS = 5_000, 300
REPEATS, QUICK_REPEATS = 5, 1

OURS, EXECUTOR, POOL = "ours, with locals, cold", "ProcessPoolExecutor.submit, warm", "Pool.apply_async, warm"


def measure(bench: Bench, count: int, repeats: int) -> str:
    """Print what a failure costs in each case; returns the verdict."""
    runs = {OURS: cases.run_ours, EXECUTOR: cases.run_executor, POOL: cases.run_pool}
    print(f"\n{count:,} calls that fail, {cases.WORKERS} workers, end to end, microseconds each")
    series = bench.alternate([Case(name, run, (count,)) for name, run in runs.items()], repeats)
    for name, samples in series.items():
        each = [seconds / count * 1e6 for seconds in figures_of(samples, "seconds")]
        print(f"  {name:36} {Spread.of(each).text('.0f') if each else 'no sample'}")
    for name in (EXECUTOR, POOL):
        found = ratios(series[OURS], series[name], "seconds")
        print(f"  ours / {name:29} {Spread.of(found).text('.2f') if found else 'not measured'}")
    ours = [seconds / count for seconds in figures_of(series[OURS], "seconds")]
    if not ours:
        return "missed  not measured"
    spread = Spread.of(ours)
    verdict = "met" if spread.median < FAILURE_S_MAX else "missed"
    return (
        f"{verdict:7} a failing task with locals costs under {FAILURE_S_MAX * 1e3:.0f} ms: {spread.median * 1e3:.2f} ms"
    )


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What a failing task costs.")
    parser.add_argument("--tasks", type=int, metavar="N", help="calls a sample")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    for name in ("tasks", "repeats"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    count = options.tasks or (QUICK_TASKS if options.quick else TASKS)
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    bench = Bench()
    bench.print_machine()
    print(f"repeats: {repeats}, in turns; figures are median (least - most)", flush=True)
    verdict = measure(bench, count, repeats)
    print(verdict)
    if options.json is not None:
        bench.save(options.json, benchmark="bench_failure", quick=options.quick, tasks=count, verdicts=[verdict])
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
