"""
Whether many tasks and many batches cost what their number says: each case at n and at 2n, and batch after batch.

    python benchmarks/bench_scale.py [--old PYTHON] [--repeats R] [--json FILE] [--quick]

In 7.0.4 making Tasks, adding them, running a chain and running batch after batch took a time that grew with the square
of their number, each task with a logfile held a descriptor, and logging kept two names a task for ever. With --old, an
interpreter that has 7.0.4, the same cases are measured there too, smaller: at these sizes it would take minutes.

The ratio of the times at 2n and at n is 2 where the time grows as the number does, 4 where it grows with its square;
below 2 where a fixed part weighs, such as the start of the workers.

Ends with a line for each threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import scale_cases as cases
from harness import Bench, Case, Figures, Series, Spread, figures_of, ratios, verdict

#: Thresholds, on the medians. Between 2 and 4, and what the clock of a busy machine may add to a batch.
GROWTH_MAX = 3.0
SLOWDOWN_MAX = 1.5

#: For making the larger number of Tasks, in CPU seconds.
MAKE_MAX_S = 1.0

#: What the resident memory may grow by a batch in the second half of them, in bytes: a tenth of a kilobyte a task.
MEMORY_MAX = 200_000


@dataclass(frozen=True)
class Growth:
    """A case at n and at 2n."""

    what: str
    func: Callable[[int], Figures]
    ours: int
    #: For 7.0.4.
    theirs: int


@dataclass(frozen=True)
class Sizes:
    """How many tasks each part has; of batches, how many and of how many tasks."""

    growths: tuple[Growth, ...]
    batches: tuple[int, int]
    their_batches: tuple[int, int]
    repeats: int


FULL = Sizes(
    growths=(
        Growth("make Tasks (CPU)", cases.make, 10_000, 2_000),
        Growth("make Tasks and a Process (CPU)", cases.build, 50_000, 2_000),
        Growth("add_task (CPU)", cases.add, 2_000, 500),
        Growth("make and run, one logfile (CPU)", cases.share_logfile, 2_500, 250),
        Growth("run a chain, parallel=True", cases.chain, 2_500, 500),
        Growth("run independent, parallel=True", cases.independent, 10_000, 2_000),
    ),
    batches=(50, 2_000),
    their_batches=(10, 500),
    repeats=3,
)
QUICK = Sizes(
    growths=tuple(Growth(growth.what, growth.func, growth.ours // 10, 100) for growth in FULL.growths),
    batches=(5, 200),
    their_batches=(5, 100),
    repeats=1,
)


@dataclass(frozen=True)
class Library:
    """A `processes` to measure: this one, or that of another interpreter."""

    name: str
    #: None for this one.
    python: str | None = None

    def case(self, func: Callable[..., Figures], *numbers: int) -> Case:
        """The case on this library."""
        name = f"{self.name}: {func.__name__} {' '.join(map(str, numbers))}"
        if self.python is None:
            return Case(name, func, numbers)
        return Case(name, cases.elsewhere, (self.python, func.__name__, *numbers))


def measure_growth(bench: Bench, library: Library, growth: Growth, repeats: int) -> tuple[Series, Series]:
    """A case at n and at 2n, in turns; prints a line."""
    count = growth.ours if library.python is None else growth.theirs
    small, large = bench.alternate(
        [library.case(growth.func, count), library.case(growth.func, 2 * count)], repeats
    ).values()
    found = ratios(large, small, "seconds")
    if not found:
        print(f"  {library.name:8} {growth.what:34} no sample", flush=True)
        return small, large
    times = [f"{Spread.of(figures_of(series, 'seconds')).median:8.3f} s" for series in (small, large)]
    print(
        f"  {library.name:8} {growth.what:34} {count:>7,} {times[0]} {2 * count:>9,} {times[1]}"
        f"   {Spread.of(found).text('.2f')} x",
        flush=True,
    )
    return small, large


def measure_batches(bench: Bench, library: Library, func: Callable[..., Figures], sizes: Sizes) -> Series:
    """Batch after batch, in one sample; prints a line."""
    batches, count = sizes.batches if library.python is None else sizes.their_batches
    series = next(iter(bench.alternate([library.case(func, batches, count)], 1).values()))
    what = "parallel=True" if func is cases.batches_parallel else "parallel=False"
    if not series:
        print(f"  {library.name:8} {what:15} no sample", flush=True)
        return series
    figures = series[0].figures
    print(
        f"  {library.name:8} {what:15} {batches:>4} x {count:>5,} {figures['first']:9.3f} s {figures['last']:9.3f} s"
        f" {figures['last'] / figures['first']:7.2f} x {figures['memory'] / 1000:9,.0f} kB"
        f" {figures['loggers'] + figures['handlers']:9,.0f}",
        flush=True,
    )
    return series


def measure(bench: Bench, libraries: list[Library], sizes: Sizes) -> list[str]:
    """Everything, printed as it comes; returns the thresholds' lines."""
    return [*_measure_growths(bench, libraries, sizes), *_measure_batches(bench, libraries, sizes)]


def _measure_growths(bench: Bench, libraries: list[Library], sizes: Sizes) -> list[str]:
    print(f"\n  {'':8} {'':34} {'n':>7} {'time':>10} {'2n':>9} {'time':>10}   time(2n) / time(n)")
    verdicts = []
    taken: dict[str, float] = {}  # {library's name: descriptors that its tasks with one logfile took}
    for growth in sizes.growths:
        for library in libraries:
            small, large = measure_growth(bench, library, growth, sizes.repeats)
            if growth.func is cases.share_logfile and large:
                taken[library.name] = max(figures_of(large, "descriptors"))
            if library.python is None:
                verdicts.append(growth_verdict(growth, ratios(large, small, "seconds")))
                if growth.func is cases.make:
                    verdicts.append(make_verdict(2 * growth.ours, large))
    print("\n  Descriptors that the tasks with one logfile took")
    for name, count in taken.items():
        print(f"  {name:8} {count:,.0f}")
    ours = taken.get(libraries[0].name)
    return [*verdicts, verdict(f"descriptors of one logfile: {ours}, no more than 1", is_met=ours == 1)]


def _measure_batches(bench: Bench, libraries: list[Library], sizes: Sizes) -> list[str]:
    print(
        "\n  Batch after batch: a batch at the beginning and at the end, and what each in the second half leaves behind"
    )
    print(f"  {'':8} {'':15} {'batches':>12} {'first':>11} {'last':>11} {'ratio':>9} {'memory':>12} {'in logging':>9}")
    verdicts = []
    for func in (cases.batches_here, cases.batches_parallel):
        for library in libraries:
            series = measure_batches(bench, library, func, sizes)
            if library.python is None and series:
                verdicts += batch_verdicts(func.__name__, series[0].figures)
    return verdicts


def growth_verdict(growth: Growth, found: list[float]) -> str:
    """Whether twice as many took clearly less than four times as long."""
    if not found:
        return verdict(f"{growth.what}: not measured", is_met=False)
    middle = Spread.of(found).median
    return verdict(f"{growth.what}: {middle:.2f} x for twice as many, below {GROWTH_MAX}", is_met=middle < GROWTH_MAX)


def make_verdict(count: int, series: Series) -> str:
    """Whether making so many Tasks took less than MAKE_MAX_S."""
    if not series:
        return verdict(f"{count:,} Tasks: not measured", is_met=False)
    seconds = Spread.of(figures_of(series, "seconds")).median
    return verdict(f"{count:,} Tasks made in {seconds:.2f} s, below {MAKE_MAX_S} s", is_met=seconds < MAKE_MAX_S)


def batch_verdicts(what: str, figures: Figures) -> list[str]:
    """Whether batches neither slow down nor leave anything behind."""
    slowdown, left, memory = figures["last"] / figures["first"], figures["loggers"], figures["memory"]
    return [
        verdict(f"{what}: last / first {slowdown:.2f} x, below {SLOWDOWN_MAX}", is_met=slowdown < SLOWDOWN_MAX),
        verdict(f"{what}: {left:g} loggers and {figures['handlers']:g} handlers left", is_met=left <= 0),
        verdict(f"{what}: {memory / 1000:,.0f} kB a batch, below {MEMORY_MAX // 1000}", is_met=memory < MEMORY_MAX),
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Whether many tasks and batches cost what their number says.")
    parser.add_argument("--old", metavar="PYTHON", help="an interpreter that has processes 7.0.4, to be measured too")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case at n and 2n")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    standard = QUICK if options.quick else FULL
    sizes = Sizes(standard.growths, standard.batches, standard.their_batches, options.repeats or standard.repeats)
    bench = Bench()
    libraries = [Library("ours")]
    if options.old is not None:
        libraries.append(Library(cases.version_of(options.old), options.old))
    bench.print_machine()
    print(
        f"repeats: {sizes.repeats}, at n and 2n in turns; times are medians, ratios median (least - most)", flush=True
    )
    started = time.perf_counter()
    verdicts = measure(bench, libraries, sizes)
    print(f"\n{time.perf_counter() - started:.0f} s for all of it; batches with parallel=True start workers each time")
    if options.quick:
        print("--quick: what is fixed weighs too much for the lines below to mean anything")
    print(*verdicts, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_scale", quick=options.quick, verdicts=verdicts)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
