"""
How soon a time-out is enforced: from a call's deadline until nothing of it runs any more, and until its caller knows.

    python benchmarks/bench_kills.py [--kills N] [--systems NAME ...] [--bodies WORD ...] [--repeats R] [--json FILE]
                                     [--quick]

The deadline is the call's first instruction, as the call itself sees it, plus its time-out. Its end is seen alike in
all systems: by the last beat of a Python loop that stamps the clock all the time, by the exception that makes it leave,
or by an observer, a process of its own that waits for its death; a program that the call had started must be dead too.
A body that is seen to live on ends its sample: the system cannot kill it.

Two workers, several calls at a time, time-outs of 50 to 150 ms. Ends with lines for the thresholds, met or missed.
Exits with 0 whatever was measured, and with 1 when a sample gave no figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import kills_cases as cases
from bench_faults import is_there, versions
from harness import Bench, Case, Series, Spread, figures_of
from kills_work import BODIES

#: Thresholds for this library at each body, in seconds: the median, and the worst of all kills.
MEDIAN_S_MAX, WORST_S_MAX = 0.010, 0.050

KILLS, QUICK_KILLS = 200, 2

#: So long calls are given to a system that takes them one by one, in seconds; it has fewer kills where it is slow.
GIVEN_S, QUICK_GIVEN_S = 20.0, 1.0

WITHOUT = """\
  ProcessPoolExecutor, multiprocessing.Pool and loky have no time-out that ends a call. joblib has one that ends the
  whole batch with all its calls, the innocent ones too. There is nothing of theirs to measure."""


def measure(bench: Bench, body: str, systems: list[str], kills: int, seconds: float, repeats: int) -> dict[str, Series]:
    """Print how all systems end one body; returns the samples by the system's name."""
    print(f"\n{body}: ms from the deadline")
    named = {
        system: Case(f"{body}: {system}", cases.kill, (cases.SYSTEMS[system], BODIES[body], kills, seconds))
        for system in systems
    }
    series = bench.alternate(list(named.values()), repeats)
    for system, case in named.items():
        print(f"  {system:10} {told_of(series[case.name])}", flush=True)
    return {system: series[case.name] for system, case in named.items()}


def told_of(series: Series) -> str:
    """One system's line."""
    texts = [f"{total(series, 'kills'):4,.0f} kills"]
    for what, figure in (("end", "end"), ("caller told", "told")):
        medians, worst = known(series, f"{figure} median"), known(series, f"{figure} worst")
        if medians:
            median = Spread.of(medians).text(".1f", 1e3) if len(medians) > 1 else f"{medians[0] * 1e3:.1f}"
            texts.append(f"{what}: median {median}, worst {max(worst) * 1e3:.1f}")
    texts += [f"{total(series, odd):.0f} {odd}" for odd in cases.ODD if total(series, odd)]
    return "   ".join(texts) if series else "no sample"


def known(series: Series, figure: str) -> list[float]:
    """Of those samples that have the figure: one without a kill has no latency."""
    return [sample.figures[figure] for sample in series.values() if figure in sample.figures]


def total(series: Series, figure: str) -> float:
    """Over all samples."""
    return sum(figures_of(series, figure))


def verdicts(body: str, series: Series) -> list[str]:
    """Whether this library is in time at one body, and ends it every time."""
    medians, worst = known(series, "end median"), known(series, "end worst")
    if not medians:
        return [f"missed  {body}: not measured"]
    odd = ", ".join(f"{total(series, what):.0f} {what}" for what in cases.ODD if total(series, what))
    median, most = Spread.of(medians).median, max(worst)
    kills = f"{total(series, 'kills'):.0f} kills" + (f", {odd}" if odd else "")
    return [
        f"{'met' if latency < limit and not odd else 'missed':7} {body}: {what} under {limit * 1e3:.0f} ms:"
        f" {latency * 1e3:.1f} ms ({kills})"
        for what, latency, limit in (("median", median, MEDIAN_S_MAX), ("worst", most, WORST_S_MAX))
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="How soon a time-out is enforced.")
    parser.add_argument("--kills", type=int, metavar="N", help="kills of each system and body in a sample")
    parser.add_argument("--systems", nargs="+", choices=cases.SYSTEMS, default=list(cases.SYSTEMS), help="only these")
    parser.add_argument("--bodies", nargs="+", metavar="WORD", default=[""], help="only those whose names have one")
    parser.add_argument("--repeats", type=int, metavar="R", default=1, help="samples of each system and body")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="too few kills to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    for name in ("kills", "repeats"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    kills = options.kills or (QUICK_KILLS if options.quick else KILLS)
    seconds = QUICK_GIVEN_S if options.quick else GIVEN_S
    systems = [system for system in options.systems if is_there(system)]
    bodies = [body for body in BODIES if any(word in body for word in options.bodies)]
    bench = Bench()
    bench.print_machine()
    print(f"{kills} kills, {cases.WORKERS} workers, repeats: {options.repeats}, in turns; {versions(systems)}")
    for system in sorted(set(options.systems) - set(systems)):
        print(f"{system} is not here")
    print(WITHOUT, flush=True)
    started = time.perf_counter()
    lines: list[str] = []
    for body in bodies:
        found = measure(bench, body, systems, kills, seconds, options.repeats)
        if "processes" in found:
            lines += verdicts(body, found["processes"])
    print(f"\n{time.perf_counter() - started:.0f} s for all of it")
    if options.quick:
        print("--quick: so few kills say little of the median and nothing of the worst")
    print(*lines, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_kills", quick=options.quick, kills=kills, verdicts=lines)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
