"""
Measures cases, each sample in a fresh process: the cases of a benchmark are tasks of the library they measure.

A case is a function of an importable module that reads the clock itself and returns its figures, in seconds or bytes.
A sample is one call of it in a child of its own, with a time-out: what starting that child costs lies outside the
case's clock and is printed apart, as the harness's overhead. Cases that are compared take turns (A B A B ...), so that
a machine that slows down slows all of them, and are compared repeat by repeat.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import processes
from processes import Process, ProcessPool, Task, TaskStatus

#: What a case returns, by name of the figure.
Figures = dict[str, float]

#: A sample of the whole run takes some seconds; one that takes this long hangs.
SAMPLE_TIMEOUT_S = 100.0

MIB = 2**20


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    #: How it is called in the output; unique in a benchmark.
    name: str
    #: Of an importable module. It checks its results and raises where they are wrong.
    func: Callable[..., Figures]
    args: tuple[object, ...] = ()
    #: Seconds that a sample may take.
    timeout: float = SAMPLE_TIMEOUT_S


@dataclass(frozen=True)
class Sample:
    """One call of a case."""

    case: str
    #: 0 for the first round.
    repeat: int
    figures: Figures
    #: Highest resident memory of the process that called the case, in bytes; that of its children is not in it.
    peak_memory: int | None
    #: Seconds that the run around the call took beyond the call.
    overhead: float


class Spread(NamedTuple):
    """Where the values of several repeats lie."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))

    def text(self, form: str = ",.0f", scale: float = 1.0) -> str:
        """Median (least - most), each times `scale`."""
        middle, low, high = (format(value * scale, form) for value in self)
        return f"{middle} ({low} - {high})"


#: The samples of one case, by repeat; those that failed are not in it.
Series = dict[int, Sample]


class Bench:
    """All samples of one run of a benchmark."""

    def __init__(self) -> None:
        """Take down where and when it begins."""
        self.machine = machine()
        self.samples: list[Sample] = []
        #: What each sample that gave no figures died of, a wrong result included.
        self.failures: list[str] = []

    def alternate(self, cases: Sequence[Case], repeats: int) -> dict[str, Series]:
        """Call every case `repeats` times, in turns; returns the samples by the case's name."""
        series: dict[str, Series] = {case.name: {} for case in cases}
        for repeat in range(repeats):
            for case in cases:
                sample = self._sample(case, repeat)
                if sample is not None:
                    series[case.name][repeat] = sample
                    self.samples.append(sample)
        return series

    def _sample(self, case: Case, repeat: int) -> Sample | None:
        task = Task("sample", timed, args=(case.func, case.args), timeout=case.timeout)
        pool = ProcessPool(1, start_method="spawn", max_tasks_per_child=1)
        started = time.perf_counter()
        report = Process([task]).run(parallel=pool)
        seconds = time.perf_counter() - started
        entry = report.entries["sample"]
        for warning in report.warnings:
            print(f"warning: {case.name}, repeat {repeat}: {warning}", flush=True)
        if entry.status is not TaskStatus.SUCCESS:
            why = "no error told" if entry.error is None else entry.error.traceback_str
            self.failures.append(f"{case.name}, repeat {repeat}: {why}")
            print(f"FAILED: {self.failures[-1]}", flush=True)
            return None
        inside, figures = entry.result
        peak = None if entry.usage is None else entry.usage.peak_memory
        return Sample(case.name, repeat, figures, peak, seconds - inside)

    def print_machine(self) -> None:
        """Where it runs, in two lines."""
        facts = self.machine
        print(f"{facts['cpu']}, {facts['usable_cpus']} of {facts['cpus']} CPUs usable, {facts['architecture']}")
        print(f"{facts['kernel']}, {facts['python']}, processes {facts['processes']}, load {facts['load']}", flush=True)

    def print_overhead(self, seconds: float) -> None:
        """What a sample costs beside what it measures, and how long all of them took."""
        known = (
            Spread.of(sample.overhead for sample in self.samples).text(".2f") + " s" if self.samples else "not known"
        )
        print(f"\nharness: {known} a sample, outside its clock; {seconds:.0f} s for all of it")

    def save(self, path: Path, **more: object) -> None:
        """Write all samples, the machine and what else is given as one JSON object."""
        document = {
            **more,
            "machine": {**self.machine, "load_at_end": _load()},
            "failures": self.failures,
            "samples": [asdict(sample) for sample in self.samples],
        }
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def timed(func: Callable[..., Figures], args: tuple[object, ...]) -> tuple[float, Figures]:
    """Seconds that a case took as a whole, and its figures. Runs in the sample's child."""
    started = time.perf_counter()
    figures = func(*args)
    return time.perf_counter() - started, figures


def empty() -> Figures:
    """Measure nothing: its overhead and peak are the harness's own."""
    return {}


def ratios(upper: Series, lower: Series, figure: str) -> list[float]:
    """One case's figure over another's, for each repeat that both have."""
    return [
        upper[repeat].figures[figure] / lower[repeat].figures[figure] for repeat in sorted(upper.keys() & lower.keys())
    ]


def figures_of(series: Series, figure: str) -> list[float]:
    """One figure of all samples, in the order of repeats."""
    return [series[repeat].figures[figure] for repeat in sorted(series)]


def peak_text(series: Series) -> str:
    """Highest peak of the samples, in MiB."""
    peaks = [sample.peak_memory for sample in series.values() if sample.peak_memory is not None]
    return f"{max(peaks) / MIB:,.0f} MiB" if peaks else "not known"


def peak_bytes() -> int:
    """Highest resident memory of this process so far. Source: VmHWM in /proc/self/status, in KiB, proc(5)."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "this kernel does not tell VmHWM"
    return int(found[1]) * 1024


def verdict(what: str, *, is_met: bool) -> str:
    """One threshold's line."""
    return f"{'met' if is_met else 'missed':7} {what}"


def machine() -> dict[str, object]:
    """What the figures depend on beside the code."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "processes": processes.__version__,
        "load": _load(),
    }


def _load() -> list[float]:
    """What else was running, over 1, 5 and 15 minutes: the figures suffer from it."""
    return [round(load, 2) for load in os.getloadavg()]


def _cpu_model() -> str:
    """Source: /proc/cpuinfo, proc(5); not every architecture has the field."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "CPU of unknown model")
