"""
What it costs to dispatch a task: end to end, beside the standard library's two pools, by size, and with data.

    python benchmarks/bench_dispatch.py [--tasks N] [--repeats R] [--json FILE] [--quick]

No-ops and tasks of 1 ms are built, run and read with two workers, and so are as many calls on a ProcessPoolExecutor
and a multiprocessing.Pool. Theirs are warm before the clock starts; ours are cold: their start is part of the run.
Then what building a Process, a chain and independent tasks cost at n/2 and at n, and how long 64 MB take from child to
child against writing them into a fresh memfd.

Ends with a line for each threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dispatch_cases as cases
import dispatch_work
import value_cases
from harness import MIB, Bench, Case, Figures, Series, Spread, empty, figures_of, peak_text, ratios, verdict
from peer_pools import WORKERS
from value_work import ARRAY

#: Thresholds, on the medians.
NOOP_RATIO_MIN = 3.0
ARRAY_RATIO_MAX = 3.0

#: Edges of each task in the graph with dependencies.
EDGES = 4

OURS, EXECUTOR, POOL = "ours, cold", "ProcessPoolExecutor.submit", "Pool.apply_async"

ARRAY_BYTES = 64 * MIB


@dataclass(frozen=True)
class Sizes:
    """How many tasks each part has."""

    noops: int
    busy: int
    built: tuple[int, ...]
    linked: int
    chain: int
    repeats: int


FULL = Sizes(noops=20_000, busy=2_000, built=(20_000, 100_000), linked=20_000, chain=5_000, repeats=3)
QUICK = Sizes(noops=3_000, busy=300, built=(2_000, 10_000), linked=2_000, chain=500, repeats=1)


def compare(bench: Bench, what: str, work: Callable[[int], int], count: int, repeats: int) -> Spread | None:
    """Ours beside the peers on `count` tasks; returns ours / ProcessPoolExecutor in tasks a second."""
    print(f"\n{what}: {count:,} tasks, {WORKERS} workers, end to end, tasks a second")
    runs = {OURS: cases.run_ours, **{name: partial(cases.run_peer, name) for name in (EXECUTOR, POOL)}}
    series = bench.alternate([Case(f"{what}: {name}", run, (work, count)) for name, run in runs.items()], repeats)
    for name, samples in zip(runs, series.values(), strict=True):
        rates = [count / seconds for seconds in figures_of(samples, "seconds")]
        text = Spread.of(rates).text() if rates else "no sample"
        if work is dispatch_work.busy and rates:
            shares = Spread.of(rate * dispatch_work.BUSY_S / WORKERS for rate in rates)
            text += f"   useful CPU {shares.text('.1f', 100)} %"
        print(f"  {name:34} {text}   peak {peak_text(samples)}")
    ours, executor, pool = series.values()
    against_executor = _show_ratio("ours / ProcessPoolExecutor", executor, ours)
    _show_ratio("ours / Pool", pool, ours)
    return against_executor


def _show_ratio(what: str, peer: Series, ours: Series) -> Spread | None:
    """As many tasks in less time are more a second: the peer's seconds over ours."""
    found = ratios(peer, ours, "seconds")
    spread = Spread.of(found) if found else None
    print(f"  {what:34} {spread.text('.2f') + ' x' if spread else 'not measured'}", flush=True)
    return spread


def scale(bench: Bench, what: str, run: Callable[..., Figures], n: int, *more: int, repeats: int) -> None:
    """Cost of an item at n/2 and at n: the same at both, if the whole grows linearly; a fixed part makes it fall."""
    named = {count: Case(f"{what}, {count:,}", run, (count, *more)) for count in (n // 2, n)}
    series = bench.alternate(list(named.values()), repeats)
    half, whole = (series[case.name] for case in named.values())
    if not half or not whole:
        print(f"  {what}: no sample")
        return
    at_half, at_whole = [
        Spread.of(seconds / count for seconds in figures_of(samples, "seconds")).text(",.1f", 1e6)
        for count, samples in zip(named, (half, whole), strict=True)
    ]
    growth = Spread.of(ratio / 2 for ratio in ratios(whole, half, "seconds"))
    seconds = Spread.of(figures_of(whole, "seconds"))
    print(f"  {what}: {n:,} in {seconds.text('.2f')} s, peak {peak_text(whole)}")
    print(f"    each: {at_half} us at n/2, {at_whole} us at n, {growth.text('.2f')} x", flush=True)


def hand_over(bench: Bench, repeats: int) -> Spread | None:
    """The array from child to child; returns its time over that of the memfd write."""
    size = f"{ARRAY_BYTES // MIB} MB"
    print(f"\nnumpy array of {size}, from before pickling in one child to every page touched in another")
    samples = bench.alternate([Case("array", value_cases.hand_over, (ARRAY, ARRAY_BYTES))], repeats)["array"]
    if not samples:
        print("  no sample")
        return None
    for name, figure in (("child to child", "seconds"), ("write into a fresh memfd", "write")):
        print(f"  {name:34} {Spread.of(figures_of(samples, figure)).text('.1f', 1000)} ms")
    ratio = Spread.of(figures_of(samples, "of write"))
    print(f"  {'child to child / write':34} {ratio.text('.2f')} x")
    growth = Spread.of(figures_of(samples, "parent growth"))
    print(f"  {'growth of the parent (VmHWM)':34} {growth.text('.1f', 1 / MIB)} MiB", flush=True)
    return ratio


def ratio_verdict(what: str, measured: Spread | None, *, is_met: bool) -> str:
    """The line of a threshold for a ratio."""
    return verdict(f"{what}: " + ("not measured" if measured is None else f"{measured.median:.2f} x"), is_met=is_met)


def measure(bench: Bench, sizes: Sizes) -> list[str]:
    """Everything, printed as it comes; returns the thresholds' lines."""
    own = bench.alternate([Case("harness alone", empty)], 3)["harness alone"]
    print(f"a sample of nothing: peak {peak_text(own)}")
    noops = compare(bench, "no-op", dispatch_work.noop, sizes.noops, sizes.repeats)
    compare(bench, "1 ms", dispatch_work.busy, sizes.busy, sizes.repeats)
    print("  Ours builds its tasks, each with a time-out, starts its workers within the clock and reads status, result")
    print("  and usage of every entry. The pools' workers are started and touched before the clock; they have neither")
    print("  time-outs nor usage.")
    print("\nCost by size (linear: 1.00 x from n/2 to n)")
    for count in sizes.built:
        scale(bench, "build a Process, no edges", cases.build, count, 0, repeats=sizes.repeats)
    scale(bench, f"build a Process, {EDGES} edges a task", cases.build, sizes.linked, EDGES, repeats=sizes.repeats)
    scale(bench, "chain, start of the workers included", cases.chain, sizes.chain, repeats=sizes.repeats)
    scale(bench, "independent, start included", cases.run_noops, sizes.noops, repeats=sizes.repeats)
    array = hand_over(bench, sizes.repeats)
    return [
        ratio_verdict(
            f"no-ops at least {NOOP_RATIO_MIN:.0f} x ProcessPoolExecutor.submit",
            noops,
            is_met=noops is not None and noops.median >= NOOP_RATIO_MIN,
        ),
        ratio_verdict(
            f"{ARRAY_BYTES // MIB} MB array within {ARRAY_RATIO_MAX:.0f} x of the memfd write",
            array,
            is_met=array is not None and array.median <= ARRAY_RATIO_MAX,
        ),
    ]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What it costs to dispatch a task.")
    parser.add_argument("--tasks", type=int, metavar="N", help="no-ops a sample; a tenth as many tasks of 1 ms")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    options = parser.parse_args(arguments)
    if options.tasks is not None and options.tasks < 2:
        parser.error("--tasks must be at least 2: its half is measured too")
    if options.repeats is not None and options.repeats < 1:
        parser.error("--repeats must be at least 1")
    return options


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    standard = QUICK if options.quick else FULL
    noops = options.tasks or standard.noops
    sizes = Sizes(
        noops=noops,
        busy=max(1, noops // 10),
        built=standard.built,
        linked=standard.linked,
        chain=standard.chain,
        repeats=options.repeats or standard.repeats,
    )
    bench = Bench()
    bench.print_machine()
    print(f"repeats: {sizes.repeats}, in turns; figures are median (least - most)", flush=True)
    started = time.perf_counter()
    verdicts = measure(bench, sizes)
    bench.print_overhead(time.perf_counter() - started)
    if options.quick:
        print("--quick: the start of the workers weighs too much for the lines below to mean anything")
    print(*verdicts, sep="\n")
    if options.json is not None:
        bench.save(options.json, benchmark="bench_dispatch", quick=options.quick, sizes=vars(sizes), verdicts=verdicts)
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
