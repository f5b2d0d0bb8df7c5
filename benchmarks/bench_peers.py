"""
What tasks, graphs and values cost, beside every pool that does the same work, and beside loops that promise nothing.

    python benchmarks/bench_peers.py [--parts PART ...] [--old PYTHON] [--repeats R] [--json FILE] [--markdown FILE]
                                     [--quick]

Everyone has two workers. Those of the others are warm and have been touched before the clock starts; ours start within
it where tasks are counted. Ours have time-outs, usage of every attempt, logs and locals; of the others pebble has
time-outs, and "raw" loops have nothing, an error included. With --old, an interpreter that has 7.0.4, that is measured
too, at a tenth of the size. Parts:

    noops     empty calls
    useful    calls of 1 and of 10 ms: useful CPU over wall time times workers
    chain     each call takes the result of the one before
    graphs    large ones, at n/2 and at n
    values    from child to child, by size and by kind
    consumers one value for several
    same      one large argument for many calls
    held      results that nobody keeps
    options   what a time-out, a memory limit, and the capture of logs add
    fairness  a long call among short ones

Ends with a line for each threshold, met or missed. Exits with 0 whatever was measured, and with 1 when a result was
wrong or a sample gave none.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dispatch_cases
import dispatch_work
import peers_cases as cases
import raw_cases
import scale_cases
import value_cases
from bench_faults import versions
from harness import MIB, Bench, Case, Figures, Series, Spread, figures_of, ratios, verdict
from peer_pools import APPLY, CHUNK, DASK, JOBLIB, LOKY, MAP, MPIRE, PEBBLE, PEERS, POOL_MAP, SUBMIT, WORKERS
from peers_cases import GRAPHS, LOGFILE, OPTIONS, PLAIN
from value_work import ARRAY, BYTES, KINDS

OURS, OURS_MAP = "this library", "this library, Task.map"
WARM = "this library, from its first task on"
RAW = "raw, one at a time", "raw, 8 in flight", f"raw, {CHUNK} in a message"
PIPE = "raw pipe, relayed"

#: Thresholds, each of which the lines at the end name.
NOOPS_MIN = {SUBMIT: 10.0, APPLY: 3.0, JOBLIB: 1.0}
PARENT_CPU_MAX_S, PARENT_BYTES_MAX = 12e-6, 2048
USEFUL_MIN = 0.95
HOP_MAX = 2.0
GROWTH_MAX = 1.5
WRITE_MIN, COPY_MIN, PIPE_MIN, PARENT_GROWTH_MAX = 0.85, 0.9, 6.0, 4 * MIB
CONSUMERS_MAX = 1.6
HELD_MAX = 300e6
OPTION_MAX = 0.10

#: Dask takes milliseconds for a call: it has a fraction of them.
_SLOW = {DASK: 20}

#: Modules that the cases import.
NEEDED = ("numpy", "pandas", "pyarrow", "loky", "joblib", "pebble", "mpire", "distributed")

#: Those that are given calls one by one.
ONE_BY_ONE = (SUBMIT, APPLY, LOKY, JOBLIB, PEBBLE, MPIRE)

#: 7.0.4 is measured with a tenth of the tasks.
_OLD_SHARE = 10


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    noops: int
    #: Tasks of 1 ms; a fifth as many of 10 ms.
    busy: int
    chain: int
    graph: int
    #: Bytes of values of each kind, and the one that all kinds and all systems have.
    values: tuple[int, ...]
    usual: int
    #: Tasks that take the same argument.
    same: int
    #: Steps of a chain of arrays, and their bytes.
    held: tuple[int, int]
    options: int
    #: Short tasks, and the seconds of the long one and of each short one.
    fairness: tuple[int, float, float]
    repeats: int


FULL = Sizes(
    noops=20_000,
    busy=4_000,
    chain=5_000,
    graph=100_000,
    values=(1024, MIB, 64 * MIB, 512 * MIB),
    usual=64 * MIB,
    same=16,
    held=(30, 100_000_000),
    options=40_000,
    fairness=(10_000, 10.0, 0.001),
    repeats=3,
)
QUICK = Sizes(
    noops=2_000,
    busy=200,
    chain=200,
    graph=2_000,
    values=(1024, MIB),
    usual=MIB,
    same=4,
    held=(4, 4_000_000),
    options=1_000,
    fairness=(200, 0.2, 0.001),
    repeats=1,
)


class Peers:
    """One run of the benchmark: what it measures by, and what it found."""

    def __init__(self, bench: Bench, sizes: Sizes, old: str | None) -> None:
        self.bench = bench
        self.sizes = sizes
        #: The interpreter that has 7.0.4.
        self.old = old
        #: Of thresholds.
        self.lines: list[str] = []
        #: As Markdown.
        self.tables: list[str] = []

    def alternate(self, runs: dict[str, Case], repeats: int | None = None) -> dict[str, Series]:
        """All cases in turns; returns their samples under the same keys."""
        series = self.bench.alternate(list(runs.values()), repeats or self.sizes.repeats)
        return {name: series[case.name] for name, case in runs.items()}

    def judge(
        self,
        what: str,
        measured: Iterable[float],
        limit: float,
        *,
        least: bool = False,
        form: str = ".2f",
        scale: float = 1.0,
    ) -> None:
        """A threshold's line: the median of what was measured, at least or at most the limit."""
        known = list(measured)
        bound = f"{'at least' if least else 'at most'} {format(limit * scale, form)}"
        if not known:
            self.lines.append(verdict(f"{what}, {bound}: not measured", is_met=False))
            return
        middle = Spread.of(known)
        is_met = middle.median >= limit if least else middle.median <= limit
        self.lines.append(verdict(f"{what}, {bound}: {middle.text(form, scale)}", is_met=is_met))

    def show(self, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table, here and as Markdown."""
        cells = [list(head), *map(list, rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        print(f"\n{title}")
        for row in cells:
            first, *rest = (
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            print("  " + "  ".join([first, *rest]), flush=True)
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "|" + "---|" * len(head))
        self.tables.append("\n".join([f"**{title}**", "", *lines]))


def _case(part: str, name: str, func: Callable[..., Figures], *args: object) -> Case:
    return Case(f"{part}: {name}", func, args)


def _spread(values: Iterable[float], form: str = ",.0f", scale: float = 1.0) -> str:
    known = list(values)
    return Spread.of(known).text(form, scale) if known else "no sample"


def _compared(series: dict[str, Series], per: dict[str, int]) -> dict[str, list[float]]:
    """Ours over each one in calls a second, repeat by repeat; `per` says how many calls each had."""
    ours = series[OURS]
    return {
        name: [ratio * per[OURS] / per[name] for ratio in ratios(samples, ours, "seconds")]
        for name, samples in series.items()
    }


def _told(series: Series, figure: str, form: str, scale: float = 1.0) -> str:
    return _spread(figures_of(series, figure), form, scale)


def _share(name: str, count: int) -> int:
    """How many of so many calls a peer is given."""
    return count // _SLOW.get(name, 1)


# ---- parts -----------------------------------------------------------------------------------------------------------


def noops(peers: Peers) -> None:
    """Empty calls, end to end."""
    count = peers.sizes.noops
    per = {OURS: count, OURS_MAP: count}
    runs = {
        OURS: _case("no-op", OURS, dispatch_cases.run_ours, dispatch_work.noop, count),
        OURS_MAP: _case("no-op", OURS_MAP, dispatch_cases.map_ours, dispatch_work.noop, count),
    }
    for name in PEERS:
        per[name] = _share(name, count)
        runs[name] = _case("no-op", name, dispatch_cases.run_peer, name, dispatch_work.noop, per[name])
    for name, (in_flight, batch) in zip(RAW, ((1, 1), (8, 1), (8, CHUNK)), strict=True):
        per[name] = count
        runs[name] = _case("no-op", name, raw_cases.loop, dispatch_work.noop, count, in_flight, batch)
    if peers.old is not None:
        name = f"processes {scale_cases.version_of(peers.old)}"
        per[name] = count // _OLD_SHARE
        runs[name] = _case("no-op", name, scale_cases.elsewhere, peers.old, "independent", per[name])
    series = peers.alternate(runs)
    compared = _compared(series, per)
    rows = []
    for name, samples in series.items():
        rates = [per[name] / seconds for seconds in figures_of(samples, "seconds")]
        rows.append([name, _spread(rates), _spread(compared[name], ".2f") + " x"])
    peers.show(f"empty calls, {count:,} of them", ["", "a second", "this library over it"], rows)
    for name, least in NOOPS_MIN.items():
        peers.judge(f"empty calls over {name}", compared[name], least, least=True)
    parent = [figures_of(series[OURS], figure) for figure in ("parent cpu", "parent memory")]
    peers.judge("CPU of the parent for a task, us", parent[0], PARENT_CPU_MAX_S, form=".1f", scale=1e6)
    peers.judge("memory of the parent for a task, bytes", parent[1], PARENT_BYTES_MAX, form=",.0f")


def useful(peers: Peers) -> None:
    """Calls that compute for a while; judged without the start of our workers, as theirs are warm."""
    busy = peers.sizes.busy
    works = {"1 ms": (dispatch_work.busy, 1, busy), "10 ms": (dispatch_work.busy_longer, 10, busy // 5)}
    rows: dict[str, list[str]] = {}
    raw = RAW[1]
    for what, (work, times, count) in works.items():
        runs = {OURS: _case(what, OURS, dispatch_cases.run_ours, work, count)}
        for name in PEERS:
            runs[name] = _case(what, name, dispatch_cases.run_peer, name, work, _share(name, count))
        runs[raw] = _case(what, raw, raw_cases.loop, work, count, 8, 1)
        shares: dict[str, dict[int, float]] = {}
        for name, samples in peers.alternate(runs).items():
            done = _share(name, count) * times * dispatch_work.BUSY_S / WORKERS
            shares[name] = {repeat: done / sample.figures["seconds"] for repeat, sample in samples.items()}
            if name == OURS:
                shares[WARM] = {repeat: done / sample.figures["warm"] for repeat, sample in samples.items()}
        for name, share in shares.items():
            rows.setdefault(name, [name]).append(_spread(share.values(), ".1f", 100))
        del shares[OURS]
        ours, floor = shares.pop(WARM), shares.pop(raw)
        over_floor = [ours[repeat] / floor[repeat] for repeat in ours.keys() & floor.keys()]
        peers.judge(f"useful CPU, tasks of {what}, of the raw loop's", over_floor, USEFUL_MIN, least=True, form=".3f")
        best = max(shares, key=lambda name: statistics.median(shares[name].values() or [0.0]))
        over_best = [ours[repeat] / shares[best][repeat] for repeat in ours.keys() & shares[best].keys()]
        peers.judge(f"useful CPU, tasks of {what}, over that of {best}", over_best, 1.0, least=True, form=".3f")
    peers.show("useful CPU, % of two workers' time", ["", *works], rows.values())


def chain(peers: Peers) -> None:
    """A hop."""
    count = peers.sizes.chain
    per = dict.fromkeys((OURS, SUBMIT, APPLY, LOKY, PEBBLE, RAW[0]), count)
    runs = {name: _case("chain", name, cases.chain_by_peer, name, count) for name in per if name in PEERS}
    runs[OURS] = _case("chain", OURS, dispatch_cases.chain, count)
    runs[RAW[0]] = _case("chain", RAW[0], raw_cases.round_trips, count)
    per[DASK] = _share(DASK, count)
    runs[DASK] = _case("chain", DASK, cases.chain_by_dask, per[DASK])
    if peers.old is not None:
        name = f"processes {scale_cases.version_of(peers.old)}"
        per[name] = count // _OLD_SHARE
        runs[name] = _case("chain", name, scale_cases.elsewhere, peers.old, "chain", per[name])
    series = peers.alternate(runs)
    rows = [[name, _told(series[name], "seconds", ",.0f", 1e6 / per[name])] for name in per]
    peers.show(f"a chain of {count:,}", ["", "us a hop"], rows)
    peers.judge("a hop of a chain over a raw round trip", ratios(series[OURS], series[RAW[0]], "seconds"), HOP_MAX)


def graphs(peers: Peers) -> None:
    """Large ones, in halves."""
    count = peers.sizes.graph
    rows = []
    for shape in GRAPHS:
        named = {f"{shape}, {n:,}": (shape, n) for n in (count // 2, count)}
        series = peers.alternate({name: _case("graph", name, cases.graph, *args) for name, args in named.items()})
        half, whole = series.values()
        growth = [ratio / 2 for ratio in ratios(whole, half, "seconds")]
        memory = figures_of(whole, "memory")
        cells = [_told(whole, "seconds", ".2f"), _told(whole, "seconds", ".1f", 1e6 / count)]
        rows.append([shape, *cells, _spread(growth, ".2f"), _spread(memory)])
        what = f"{count:,} tasks, {shape}"
        peers.judge(f"{what}: a task at n over one at n/2", growth, GROWTH_MAX)
        peers.judge(f"{what}: memory of the parent for a task, bytes", memory, PARENT_BYTES_MAX, form=",.0f")
    head = ["", "s", "us a task", "a task at n over one at n/2", "bytes of the parent a task"]
    peers.show(f"graphs of {count:,} tasks", head, rows)


def values(peers: Peers) -> None:
    """From child to child."""
    by_size(peers)
    by_kind(peers)
    by_system(peers)


def by_size(peers: Peers) -> None:
    """Arrays."""
    rows = []
    for size in peers.sizes.values:
        name = _bytes(size)
        series = peers.alternate({name: _case("array", name, value_cases.hand_over, ARRAY, size)})[name]
        rows.append([name, *_way(series)])
    peers.show("an array from child to child", ["", *_WAY], rows)


def by_kind(peers: Peers) -> None:
    """Each kind of the usual size."""
    size = peers.sizes.usual
    rows = []
    for kind in KINDS:
        runs = {
            OURS: _case(kind, OURS, value_cases.hand_over, kind, size),
            PIPE: _case(kind, PIPE, value_cases.hand_over_by_pipe, kind, size),
        }
        series = peers.alternate(runs)
        ours = series[OURS]
        over_pipe = ratios(series[PIPE], ours, "seconds")
        rows.append([kind, *_way(ours), _spread(over_pipe, ".1f")])
        what = f"{_bytes(size)} {kind}"
        if kind != BYTES:  # They cannot be mapped: who gets them has a copy.
            peers.judge(f"{what}: of a memfd write's rate", _inverse(ours, "of write"), WRITE_MIN, least=True)
        if kind == ARRAY:
            peers.judge(f"{what}: of a copy's rate", _inverse(ours, "of copy"), COPY_MIN, least=True)
            peers.judge(f"{what}: over a pipe that relays bytes", over_pipe, PIPE_MIN, least=True)
        growth = figures_of(ours, "parent growth")
        peers.judge(f"{what}: growth of the parent, MiB", growth, PARENT_GROWTH_MAX, form=".1f", scale=1 / MIB)
    peers.show(f"{_bytes(size)} from child to child", ["", *_WAY, "over a pipe"], rows)


_WAY = ("ms", "of a memfd write's rate", "of that with mapping", "of a copy's rate", "parent grows, MiB")


def _way(series: Series) -> list[str]:
    return [
        _told(series, "seconds", ".2f", 1e3),
        _spread(_inverse(series, "of write"), ".2f"),
        _spread(_inverse(series, "of floor"), ".2f"),
        _spread(_inverse(series, "of copy"), ".2f"),
        _told(series, "parent growth", ".1f", 1 / MIB),
    ]


def _inverse(series: Series, figure: str) -> list[float]:
    return [1 / value for value in figures_of(series, figure)]


def by_system(peers: Peers) -> None:
    """An array of the usual size."""
    size = peers.sizes.usual
    runs = {OURS: _case("systems", OURS, value_cases.hand_over, ARRAY, size)}
    for name in ONE_BY_ONE:
        runs[name] = _case("systems", name, value_cases.hand_over_by_peer, name, ARRAY, size)
    runs[DASK] = _case("systems", DASK, value_cases.hand_over_by_dask, ARRAY, size)
    runs[PIPE] = _case("systems", PIPE, value_cases.hand_over_by_pipe, ARRAY, size)
    _show_systems(peers, f"an array of {_bytes(size)} from child to child", peers.alternate(runs))


def _show_systems(peers: Peers, title: str, series: dict[str, Series]) -> None:
    rows = [
        [
            name,
            _told(samples, "seconds", ",.1f", 1e3),
            _spread(ratios(samples, series[OURS], "seconds"), ".1f") + " x",
            _told(samples, "parent growth", ".0f", 1 / MIB),
        ]
        for name, samples in series.items()
    ]
    peers.show(title, ["", "ms", "over this library", "parent grows, MiB"], rows)


def consumers(peers: Peers) -> None:
    """One value for several."""
    size = peers.sizes.usual
    counts = {f"{count}": count for count in (1, 2, 4, 8)}
    runs = {
        name: _case("consumers", name, value_cases.hand_to_many, ARRAY, size, count) for name, count in counts.items()
    }
    series = peers.alternate(runs)
    rows = [
        [
            name,
            _told(samples, "seconds", ".1f", 1e3),
            _spread(ratios(samples, series["1"], "seconds"), ".2f"),
            _told(samples, "parent cpu", ".1f", 1e3 / (value_cases.ROUNDS * counts[name])),
        ]
        for name, samples in series.items()
    ]
    title = f"an array of {_bytes(size)} for several tasks, until the last of them has looked at it"
    peers.show(title, ["tasks", "ms", "of one's", "parent's CPU for each, its start included, ms"], rows)
    peers.judge("4 consumers over 1", ratios(series["4"], series["1"], "seconds"), CONSUMERS_MAX)


def same(peers: Peers) -> None:
    """One large argument for many calls."""
    size, count = peers.sizes.usual, peers.sizes.same
    runs = {OURS: _case("same", OURS, value_cases.give_same, size, count)}
    for name in ONE_BY_ONE:
        runs[name] = _case("same", name, value_cases.give_same_by_peer, name, size, count)
    runs[DASK] = _case("same", DASK, value_cases.give_same_by_dask, size, count)
    _show_systems(peers, f"the same array of {_bytes(size)} for {count} calls", peers.alternate(runs))


def held(peers: Peers) -> None:
    """Results that nobody keeps."""
    steps, size = peers.sizes.held
    series = peers.alternate({OURS: _case("held", OURS, value_cases.hold, steps, size)})[OURS]
    memory = figures_of(series, "memory")
    what = f"a chain of {steps} x {size / 1e6:.0f} MB"
    row = [what, _told(series, "seconds", ".2f"), _spread(memory, ".0f", 1e-6)]
    peers.show("arrays that nobody keeps", ["", "s", "memory of all processes, MB"], [row])
    peers.judge(f"{what}, memory of all processes in MB", memory, HELD_MAX, form=".0f", scale=1e-6)


def options(peers: Peers) -> None:
    """What they add to an empty task."""
    count = peers.sizes.options
    series = peers.alternate({name: _case("option", name, cases.option, name, count) for name in OPTIONS})
    rows = []
    for name, samples in series.items():
        added = [ratio - 1 for ratio in ratios(samples, series[PLAIN], "seconds")]
        each = _told(samples, "seconds", ".1f", 1e6 / count)
        rows.append([name, each, "" if name == PLAIN else _spread(added, "+.1f", 100)])
        if name not in (PLAIN, LOGFILE):
            peers.judge(f"{name} adds, %", added, OPTION_MAX, form=".1f", scale=100)
    peers.show(f"what an option adds to empty tasks, {count:,} of them", ["", "us a task", "adds, %"], rows)


def fairness(peers: Peers) -> None:
    """A long call, then many short ones; each system once, for it takes seconds whatever the system."""
    count, long_s, short_s = peers.sizes.fairness
    systems: tuple[str | None, ...] = (None, SUBMIT, MAP, APPLY, POOL_MAP, JOBLIB, MPIRE)
    runs = {
        name or OURS: _case("fairness", name or OURS, cases.fairness, name, count, long_s, short_s) for name in systems
    }
    series = peers.alternate(runs, 1)
    rows = [
        [name, *(_told(samples, figure, ".2f") for figure in ("of ideal", "held back"))]
        for name, samples in series.items()
    ]
    title = f"a call of {long_s:g} s, then {count:,} of {short_s * 1e3:g} ms"
    peers.show(title, ["", "of the ideal time", "longest held back, s"], rows)
    what = f"a short task ends after one that is {cases.APART} places behind it, s"
    peers.judge(what, figures_of(series[OURS], "held back"), long_s / 20)


def _bytes(size: int) -> str:
    return f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"


PARTS: dict[str, Callable[[Peers], None]] = {
    part.__name__: part for part in (noops, useful, chain, graphs, values, consumers, same, held, options, fairness)
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What tasks, graphs and values cost, beside others.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--old", metavar="PYTHON", help="an interpreter that has processes 7.0.4, to be measured too")
    parser.add_argument("--repeats", type=int, metavar="R", help="samples of each case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every sample and the machine here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument("--quick", action="store_true", help="sizes too small to judge by, to see that all of it works")
    found = parser.parse_args(arguments)
    if found.repeats is not None and found.repeats < 1:
        parser.error("--repeats must be at least 1")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"not here: {', '.join(missing)}; `tox run -e bench-peers` has them")
    return found


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    asked = parse()
    standard = QUICK if asked.quick else FULL
    sizes = Sizes(**{**vars(standard), "repeats": asked.repeats or standard.repeats})
    bench = Bench()
    bench.print_machine()
    print(
        f"repeats: {sizes.repeats}, in turns; figures are median (least - most);"
        f" {versions(['loky', 'joblib', 'pebble', 'mpire', 'distributed'])}",
        flush=True,
    )
    peers = Peers(bench, sizes, asked.old)
    started = time.perf_counter()
    for name in asked.parts:
        PARTS[name](peers)
    bench.print_overhead(time.perf_counter() - started)
    if asked.quick:
        print("--quick: what is fixed weighs too much for the lines below to mean anything")
    print(*peers.lines, sep="\n")
    if asked.json is not None:
        bench.save(asked.json, benchmark="bench_peers", quick=asked.quick, verdicts=peers.lines)
    if asked.markdown is not None:
        asked.markdown.write_text("\n\n".join(peers.tables) + "\n", encoding="utf-8")
    if bench.failures:
        print(f"samples that failed, see above: {len(bench.failures)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
