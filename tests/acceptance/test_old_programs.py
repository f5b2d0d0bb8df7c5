"""
Whole programs, as they are written for 7.0.4: each runs as it is, in every mode.

They name no class, parameter or module that 7.0.4 has not, so this file can be run with either.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

in_every_mode = pytest.mark.parametrize(
    "mode", ["False", "'threads'", "True"], ids=["sequential", "threads", "processes"]
)

#: A fail-safe that no passing test meets, in seconds.
WAIT_S = 60.0


def run_program(text: str, mode: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it there as a script, with `MODE` for what it gives as `parallel`."""
    script = folder / "program.py"
    script.write_text(text.replace("MODE", mode), encoding="utf-8")
    return subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def lines(path: Path) -> list[str]:
    """Of a logfile, without time and logger."""
    return [line.split(" - ", 2)[2] for line in path.read_text(encoding="utf-8").splitlines()]


# Nobody listens at that port: a mail that is tried all the same warns.
QUICK_START = """
from datetime import date

from processes import EmailChannel, Process, SMTPConfig, Task, TaskDependency


def day_before():
    return date(2025, 12, 30)


def other():
    return "foo"


def rows_of(day):
    assert day == date(2025, 12, 30)
    return 10


def add(x, a=1, b=2):
    return x + a + b


mail = EmailChannel(SMTPConfig(("127.0.0.1", 1), "etl@example.com", ["ops@example.com"]))
tasks = [
    Task("day", day_before, "etl.log"),
    Task("other", other, "indep.log"),
    Task("rows", rows_of, "etl.log", dependencies=[TaskDependency("day", use_result_as_additional_args=True)]),
    Task(
        "sum",
        add,
        "etl.log",
        args=(10,),
        kwargs={"b": 100},
        dependencies=[TaskDependency("rows", use_result_as_additional_kwargs=True, additional_kwarg_name="a")],
    ),
]
with Process(tasks) as process:
    report = process.run(parallel=MODE)
    report.notify(mail, only_errors=True)
for name, entry in report.successes.items():
    print(name, entry.result)
"""


@in_every_mode
def test_quick_start_runs_as_it_was_written(mode: str, tmp_path: Path) -> None:
    """1.4: results pass from task to task, logs are written, and without an error nothing is sent."""
    ended = run_program(QUICK_START, mode, tmp_path)
    assert (ended.stdout, ended.stderr) == ("day 2025-12-30\nother foo\nrows 10\nsum 120\n", "")
    told = [f"INFO - {what} {name}." for name in ("day", "rows", "sum") for what in ("Starting", "Finished")]
    assert lines(tmp_path / "etl.log") == told
    assert lines(tmp_path / "indep.log") == ["INFO - Starting other.", "INFO - Finished other."]


TWICE = """
import json
import os

from processes import Process, Task, TaskDependency


def fetch():
    return {"rows": [3, 1, 2], "source": "api"}


def check(data):
    return {"good": len(data["rows"])}


def figures(data):
    return {"mean": sum(data["rows"]) / 3, "range": (min(data["rows"]), max(data["rows"]))}


def prepare(checked, found):
    return {"checked": checked, "figures": found}


def save(prepared, path="nowhere.json"):
    with open(path, "w") as file:
        json.dump(prepared, file)
    return f"saved to {path}"


def tell(saved, found=None):
    return f"{saved}: {found['mean']} in {found['range']}"


def takes(*names):
    return [TaskDependency(name, use_result_as_additional_args=True) for name in names]


def main():
    os.makedirs("logs", exist_ok=True)
    path = os.path.join("logs", "out.json")
    by_name = TaskDependency("figures", use_result_as_additional_kwargs=True, additional_kwarg_name="found")
    fetched = Task("fetch", fetch, "logs/fetch.log")
    checked = Task("check", check, "logs/check.log", dependencies=takes("fetch"))
    found = Task("figures", figures, "logs/figures.log", dependencies=takes("fetch"))
    prepared = Task("prepare", prepare, "logs/prepare.log", dependencies=takes("check", "figures"))
    saved = Task("save", save, "logs/save.log", args=(), kwargs={"path": path}, dependencies=takes("prepare"))
    told = Task("tell", tell, "logs/tell.log", dependencies=[*takes("save"), by_name])
    tasks = [told, saved, prepared, found, checked, fetched]

    with Process(tasks) as process:
        first = process.run(parallel=False)
    with Process(tasks) as process:
        second = process.run(parallel=MODE, max_workers=4)
    for report in (first, second):
        print(*report.successes)
        print(report.entries["tell"].result)


if __name__ == "__main__":
    main()
"""


@in_every_mode
def test_tasks_are_run_by_a_second_process_as_it_was_written(mode: str, tmp_path: Path) -> None:
    """1.5, examples 1 and 2: the same Task objects, by position and by keyword, in a second `with Process(...)`."""
    ended = run_program(TWICE, mode, tmp_path)
    told = "fetch figures check prepare save tell\nsaved to logs/out.json: 2.0 in (1, 3)\n"
    assert (ended.stdout, ended.stderr) == (2 * told, "")
    written = {"checked": {"good": 3}, "figures": {"mean": 2.0, "range": [1, 3]}}
    assert json.loads((tmp_path / "logs" / "out.json").read_text()) == written
    assert len(list((tmp_path / "logs").glob("*.log"))) == 6


PIPELINE = """
import json
import os

from processes import (
    EmailChannel,
    HTMLEmailStyle,
    Process,
    ReportContent,
    SMTPConfig,
    Task,
    TaskDependency,
    TaskStatus,
    WebhookChannel,
    WebhookConfig,
)


def inventory():
    return {"skus": ["A-1", "B-2"], "place": "east"}


def price(found):
    return {"prices": {sku: 10.0 + number for number, sku in enumerate(found["skus"])}}


def charge(priced):
    pending = list(priced["prices"])
    raise ConnectionError(f"refused with {pending} pending")


def ship(charged):
    return f"shipped {len(charged)}"


def takes(name):
    return [TaskDependency(name, use_result_as_additional_args=True)]


os.makedirs("logs", exist_ok=True)
tasks = [
    Task("fetch_inventory", inventory, "logs/fetch.log"),
    Task("enrich_pricing", price, "logs/enrich.log", dependencies=takes("fetch_inventory")),
    Task(
        "charge_payments",
        charge,
        "logs/charge.log",
        dependencies=takes("enrich_pricing"),
        retries=2,
        retry_on=(ConnectionError,),
    ),
    Task("ship_orders", ship, "logs/ship.log", dependencies=takes("charge_payments")),
    Task("archive_logs", lambda: "archived", "logs/archive.log"),
]
with Process(tasks, name="orders-pipeline") as process:
    report = process.run(parallel=MODE)

assert report.process_name == "orders-pipeline"
assert report.entries["charge_payments"].status is TaskStatus.ERRORED
assert list(json.loads(report.to_json())["entries"]) == list(report.entries)
for name, entry in report.entries.items():
    print(name, entry.status.value, entry.attempts)
print(report.entries["charge_payments"].error.traced_vars["pending"])

mail = EmailChannel(
    SMTPConfig(mailhost=("127.0.0.1", 1), fromaddr="etl@example.com", toaddrs=["ops@example.com"]),
    HTMLEmailStyle(palette="slate", language="en"),
    ReportContent(show_traceback=True, show_traced_vars=True),
)
hook = WebhookChannel(WebhookConfig(url="http://127.0.0.1:1/in", secret="key", nest_under="report"))
report.notify(mail, hook, only_errors=True)
report.notify(mail, tasks=["CHARGE_payments"])
print("told")
"""


@in_every_mode
def test_pipeline_with_a_failure_runs_as_it_was_written(mode: str, tmp_path: Path) -> None:
    """1.5, example 3: what depends on the failure is skipped; channels that reach nobody warn and stop nothing."""
    ended = run_program(PIPELINE, mode, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "fetch_inventory success 1",
        "archive_logs success 1",
        "enrich_pricing success 1",
        "charge_payments errored 3",
        "ship_orders skipped 0",
        "['A-1', 'B-2']",
        "told",
    ]
    warned = [
        line.partition("UserWarning: ")[2].split()[0] for line in ended.stderr.splitlines() if "Warning: " in line
    ]
    assert warned == ["EmailChannel", "WebhookChannel", "EmailChannel"]
    assert (tmp_path / "logs" / "ship.log").read_text() == ""
    assert (tmp_path / "logs" / "charge.log").read_text().count(" - WARNING - Attempt ") == 2
