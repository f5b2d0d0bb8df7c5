"""
Log records a second from several processes into one file: ours, and the two ways of the standard library.

    python benchmarks/bench_logs.py [--lines N] [--repeats R] [--json FILE] [--quick]

Two processes log N lines in all. Ours are tasks that share a logfile: each record is with the parent before the call
returns, and the parent gives it to the file and to the application's loggers. A QueueHandler over a
`multiprocessing.Queue` to a QueueListener is what the logging cookbook has for that, except that what the sender had
not sent is lost when it is killed. Two FileHandlers on one file are the least there can be: no parent hears of them.

Ends with a line for each threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a line was
missing, torn or doubled, or a sample gave none.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import logs_cases as cases
from harness import Bench, Case, Series, Spread, figures_of, peak_text, ratios

#: Threshold, on the median.
QUEUE_RATIO_MIN = 2.0

#: What is aimed at.
FILE_RATIO_GOAL = 1.0

LINES, QUICK_LINES = 100_000, 4_000
REPEATS, QUICK_REPEATS = 5, 1

OURS, QUEUE, FILE = "ours", "QueueHandler over multiprocessing.Queue", "FileHandler in each process"


def measure(bench: Bench, lines: int, repeats: int) -> list[str]:
    """Print every case's rate and the ratios; returns the verdicts."""
    count = lines // cases.WORKERS
    runs = {OURS: cases.ours, QUEUE: cases.by_queue_handler, FILE: cases.by_file_handlers}
    print(f"\n{lines:,} lines of {cases.WORKERS} processes into one file, records a second")
    series = bench.alternate([Case(name, run, (count,)) for name, run in runs.items()], repeats)
    for name, samples in series.items():
        rates = [lines / seconds for seconds in figures_of(samples, "seconds")]
        text = Spread.of(rates).text() if rates else "no sample"
        print(f"  {name:40} {text}   peak of the parent {peak_text(samples)}")
    queue, file = (_ratio(series[OURS], series[name]) for name in (QUEUE, FILE))
    killed = bench.alternate([Case("ours, killed", cases.ours_killed, (count,))], repeats)["ours, killed"]
    told = f"lost none {len(killed)} of {repeats} times"
    print(f"  {lines:,} lines of processes that are killed behind the last one: {told}")
    return [
        _verdict(f"at least {QUEUE_RATIO_MIN:.0f} x the QueueHandler", queue, QUEUE_RATIO_MIN, "missed"),
        _verdict("goal: as many as two FileHandlers", file, FILE_RATIO_GOAL, "not met"),
    ]


def _ratio(ours: Series, peer: Series) -> Spread | None:
    """As many lines in less time are more a second: the peer's seconds over ours."""
    found = ratios(peer, ours, "seconds")
    return Spread.of(found) if found else None


def _verdict(what: str, ratio: Spread | None, least: float, otherwise: str) -> str:
    told = f"{ratio.text('.2f')} x" if ratio else "not measured"
    return f"{'met' if ratio and ratio.median >= least else otherwise:7} {what}: {told}"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Log records a second from several processes into one file.")
    parser.add_argument("--lines", type=int, metavar="N", help="lines a sample, of all processes")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    if options.lines is not None and options.lines < cases.WORKERS:
        parser.error(f"--lines must be at least {cases.WORKERS}: one of each process")
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    lines = options.lines or (QUICK_LINES if options.quick else LINES)
    lines -= lines % cases.WORKERS
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    bench = Bench()
    bench.print_machine()
    print(f"repeats: {repeats}, in turns; figures are median (least - most)", flush=True)
    started = time.perf_counter()
    verdicts = measure(bench, lines, repeats)
    print(f"\n{time.perf_counter() - started:.0f} s for all of it")
    if options.quick:
        print("--quick: the start and end of a run weigh too much for the lines below to mean anything")
    print(*verdicts, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_logs", quick=options.quick, lines=lines, verdicts=verdicts)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
