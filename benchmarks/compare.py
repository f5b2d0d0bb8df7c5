"""
What differs between two saved runs of a benchmark, beyond the noise of each.

    python benchmarks/bench_dispatch.py --json before.json
    ...
    python benchmarks/bench_dispatch.py --json after.json
    python benchmarks/compare.py before.json after.json [--least 0.05]

A figure differs when no repeat of the one run lies among the repeats of the other, and the medians are apart by a
share of at least `--least`; with three repeats each that happens by chance once in ten figures, with five in 126.
Every other figure is the same, as far as these runs can tell. Machines, interpreters and loads that differ are said
first: then the code need not be what made the difference.

Exits with 0 whatever it finds, and with 2 where the files are no runs of the same benchmark.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from harness import Spread

#: Medians nearer than this share are called the same, however steady both runs were.
LEAST = 0.05

#: {(case, figure): its values, one a repeat}
Values = dict[tuple[str, str], list[float]]


def values_of(run: dict[str, Any]) -> Values:
    """All figures of a saved run."""
    found: Values = defaultdict(list)
    for sample in run["samples"]:
        for figure, value in sample["figures"].items():
            found[sample["case"], figure].append(value)
        if sample["peak_memory"] is not None:
            found[sample["case"], "peak memory"].append(sample["peak_memory"])
    return dict(found)


def is_beyond_noise(before: list[float], after: list[float], least: float) -> bool:
    """Whether two series of one figure are apart; one value alone has no noise to be told from."""
    if min(len(before), len(after)) < 2:
        return False
    was, now = Spread.of(before), Spread.of(after)
    are_apart = now.least > was.most or now.most < was.least
    return are_apart and abs(now.median - was.median) >= least * max(abs(was.median), abs(now.median))


def comparison(before: Values, after: Values, least: float) -> list[str]:
    """A line for each figure that differs, and how many do not."""
    lines: list[str] = []
    same = 0
    for key in [key for key in before if key in after]:
        if not is_beyond_noise(before[key], after[key], least):
            same += 1
            continue
        was, now = Spread.of(before[key]), Spread.of(after[key])
        times = f"{now.median / was.median:.2f} x" if was.median else "from nothing"
        lines.append(f"  {key[0]}, {key[1]}: {times}   {_short(was)} -> {_short(now)}")
    lines.append(f"  {same} of {same + len(lines)} figures are the same within the noise")
    alone = sum(min(len(before[key]), len(after[key])) < 2 for key in before if key in after)
    if alone:
        lines.append(f"  of which {alone} were measured only once in one of them: their noise is not known")
    for name, only in (("before", before.keys() - after.keys()), ("after", after.keys() - before.keys())):
        lines += [f"  only {name}: {case}, {figure}" for case, figure in sorted(only)]
    return lines


def surroundings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What the two machines did not share."""
    facts = [name for name in before if name not in ("at", "load_at_end") and before[name] != after.get(name)]
    return [f"  {name}: {before[name]} -> {after.get(name)}" for name in facts]


def _short(spread: Spread) -> str:
    return spread.text(".4g")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What differs between two saved runs of a benchmark.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--least", type=float, default=LEAST, help="smallest share of a difference (%(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    options = parse()
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
    if before.get("benchmark") != after.get("benchmark"):
        print(f"not the same benchmark: {before.get('benchmark')} and {after.get('benchmark')}", file=sys.stderr)
        return 2
    told = surroundings(before["machine"], after["machine"])
    print("what differs around them:" if told else "the same machine, interpreter and load")
    print(*told, *["figures:"], *comparison(values_of(before), values_of(after), options.least), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
