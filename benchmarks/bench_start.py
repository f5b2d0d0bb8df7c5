"""
How soon there is something: a program's first results, a worker in the place of a dead one, an import.

    python benchmarks/bench_start.py [--systems NAME ...] [--repeats R] [--json FILE] [--quick]

A program is a script that gives two small calls to two workers: from before its interpreter is started until its
results are read, and until it has ended; and what a second batch takes in the same program. Ours has its results when
the run has ended; the others print theirs before they close their pool.

A worker that kills itself is replaced: from its last instruction to the first one of the next call, with one worker,
and numpy imported by the module of the calls. Pools that break where a worker dies have no such figure.

Ends with lines for the thresholds, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import start_cases as cases
from bench_faults import is_there, versions
from harness import Bench, Case, Series, Spread, figures_of, ratios

#: Thresholds: the first results of ours over those of an executor that forks; seconds from a death to the next call.
START_RATIO_MAX = 1.5
REPLACE_S_MAX, REPLACE_S_GOAL = 0.015, 0.005

#: A system and how it starts its workers.
Kind = tuple[str, str]

#: Ours is judged as it starts workers where nothing is said.
OURS, FORKING = ("processes", "forkserver"), ("ProcessPoolExecutor", "fork")

#: Those that start their workers from clean interpreters.
CLEAN: list[Kind] = [
    ("ProcessPoolExecutor", "forkserver"),
    ("ProcessPoolExecutor", "spawn"),
    ("loky", "loky"),
    ("joblib", "loky"),
]

STARTED: list[Kind] = [
    OURS,
    ("processes", "spawn"),
    ("processes", "fork"),
    FORKING,
    *CLEAN,
    ("multiprocessing.Pool", "fork"),
    ("pebble", "fork"),
    ("mpire", "fork"),
]

REPLACED = {
    OURS: cases.replace_ours,
    ("processes", "spawn"): cases.replace_ours,
    ("processes", "fork"): cases.replace_ours,
    ("pebble", "fork"): cases.replace_pebble,
    ("multiprocessing.Pool", "fork"): cases.replace_mppool,
}

BREAKING = "  ProcessPoolExecutor, loky, joblib and mpire break where a worker dies: nothing takes its place."

#: {system: the statements with which its users begin}
IMPORTS = {
    "processes": ["import processes", "from processes import Process, ProcessPool, Task"],
    "ProcessPoolExecutor": ["from concurrent.futures import ProcessPoolExecutor"],
    "multiprocessing.Pool": ["import multiprocessing.pool"],
    "loky": ["import loky"],
    "joblib": ["import joblib"],
    "pebble": ["import pebble"],
    "mpire": ["import mpire"],
}

REPEATS, QUICK_REPEATS = 11, 1
DEATHS, QUICK_DEATHS = 20, 3

#: Samples of replacements, each of which has many, in place of the others' repeats.
REPLACE_REPEATS = 3


def name_of(kind: Kind) -> str:
    """As it is printed."""
    system, method = kind
    return system if system == method else f"{system}, {method}"


def start_all(bench: Bench, systems: list[str], repeats: int) -> list[str]:
    """Programs from start to end; returns the thresholds' lines."""
    print("\na program with one batch of two calls, ms from the start of its interpreter; and a second batch")
    named = {
        kind: Case(f"start: {name_of(kind)}", cases.start, kind, timeout=60.0) for kind in STARTED if kind[0] in systems
    }
    by_name = bench.alternate(list(named.values()), repeats)
    series = {kind: by_name[case.name] for kind, case in named.items()}
    print(f"  {'':32} {'first results':>24} {'end':>24} {'second batch':>24}")
    for kind, samples in series.items():
        cells = [milliseconds(samples, figure) for figure in ("first", "end", "second")]
        print(f"  {name_of(kind):32} " + " ".join(f"{cell:>24}" for cell in cells), flush=True)
    if OURS not in series:
        return []
    lines = []
    for figure, what in (("first", "first results"), ("end", "end")):
        lines += [
            _within(f"{what} at most {START_RATIO_MAX} x those of", series, FORKING, figure, START_RATIO_MAX),
            *(_within(f"{what} before those of", series, kind, figure, 1.0) for kind in CLEAN if kind in series),
        ]
    return lines


def _within(what: str, series: dict[Kind, Series], peer: Kind, figure: str, limit: float) -> str:
    """A threshold's line: ours over a peer's, repeat by repeat."""
    found = ratios(series[OURS], series.get(peer, {}), figure)
    if not found:
        return f"missed  {what} {name_of(peer)}: not measured"
    ratio = Spread.of(found)
    return f"{'met' if ratio.median <= limit else 'missed':7} {what} {name_of(peer)}: {ratio.text('.2f')} x"


def replace_all(bench: Bench, systems: list[str], deaths: int, repeats: int) -> list[str]:
    """Workers in the place of dead ones; returns the thresholds' lines."""
    print("\nanother worker in the place of one that died, numpy imported, ms from its death to the next call")
    named = {
        kind: Case(f"replace: {name_of(kind)}", cases.replace, (run, kind[1], deaths))
        for kind, run in REPLACED.items()
        if kind[0] in systems
    }
    series = bench.alternate(list(named.values()), repeats)
    for kind, case in named.items():
        worst = figures_of(series[case.name], "worst")
        told = f", worst {max(worst) * 1e3:.1f}" if worst else ""
        print(f"  {name_of(kind):32} {milliseconds(series[case.name], 'median')}{told}", flush=True)
    print(BREAKING)
    if OURS not in named:
        return []
    medians = figures_of(series[named[OURS].name], "median")
    if not medians:
        return ["missed  a worker replaced: not measured"]
    median = Spread.of(medians).median
    return [
        f"{'met' if median < limit else 'missed':7} {what} under {limit * 1e3:.0f} ms: {median * 1e3:.1f} ms"
        for what, limit in (("a worker replaced", REPLACE_S_MAX), ("goal: a worker replaced", REPLACE_S_GOAL))
    ]


def import_all(bench: Bench, systems: list[str], repeats: int) -> None:
    """What the imports take; nothing is asked of them."""
    print("\nan import in a new interpreter, ms")
    statements = [statement for system in systems for statement in IMPORTS[system]]
    series = bench.alternate([Case(statement, cases.import_alone, (statement,)) for statement in statements], repeats)
    for statement, samples in series.items():
        print(f"  {statement:52} {milliseconds(samples, 'seconds')}", flush=True)


def milliseconds(series: Series, figure: str) -> str:
    """One figure of all samples."""
    found = figures_of(series, figure)
    return Spread.of(found).text(".1f", 1e3) if found else "no sample"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="How soon there is something.")
    parser.add_argument("--systems", nargs="+", choices=IMPORTS, default=list(IMPORTS), help="only these")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="too few samples to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    repeats = options.repeats or (QUICK_REPEATS if options.quick else REPEATS)
    deaths = QUICK_DEATHS if options.quick else DEATHS
    systems = [system for system in options.systems if is_there(system)]
    # A checkout would be compiled at every start, while the others' bytecode came with their installation.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    bench = Bench()
    bench.print_machine()
    print(f"repeats: {repeats}, in turns; figures are median (least - most); {versions(systems)}", flush=True)
    for system in sorted(set(options.systems) - set(systems)):
        print(f"{system} is not here")
    started = time.perf_counter()
    lines = start_all(bench, systems, repeats)
    lines += replace_all(bench, systems, deaths, min(repeats, REPLACE_REPEATS))
    import_all(bench, systems, repeats)
    print(f"\n{time.perf_counter() - started:.0f} s for all of it")
    if options.quick:
        print("--quick: so few samples say nothing of what a busy machine did to them")
    print(*lines, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_start", quick=options.quick, deaths=deaths, verdicts=lines)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
