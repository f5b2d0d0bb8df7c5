"""README's "API reference" has every parameter, field, event and exception there is, with its default, and no other."""

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable

import pytest

import processes
from processes.observer import RunEvent
from support.readme import README, Table, code_in, tables

#: Tables of parameters, by their section, or by the name in their head.
CALLABLES: dict[str, Callable[..., object]] = {
    "Task": processes.Task,
    "TaskDependency": processes.TaskDependency,
    "Process": processes.Process,
    "Process.run": processes.Process.run,
    "ProcessPool": processes.ProcessPool,
    "EmailChannel": processes.EmailChannel,
    "SMTPConfig": processes.SMTPConfig,
    "HTMLEmailStyle": processes.HTMLEmailStyle,
    "ReportContent": processes.ReportContent,
    "WebhookChannel": processes.WebhookChannel,
    "WebhookConfig": processes.WebhookConfig,
}

#: One of each error, for its fields.
ERRORS = [
    processes.CircularDependencyError("a -> a"),
    processes.DependencyNotFoundError("a", "b"),
    processes.TaskFailedError("a", "SystemExit"),
    processes.TaskNotFoundError("a"),
    processes.TaskTimeoutError.of_attempt("a", 1),
    processes.MemoryLimitError("a", 1, 2),
    processes.WorkerCrashedError("a", status=-9, pid=1, seconds=1.0),
    processes.WorkerStartError("a"),
    processes.UnpicklableError("a", "result", "b"),
    processes.TaskCheckError("a", task_name="b", what="func"),
    processes.RemoteTaskError("a", "b"),
    processes.ReportDeliveryError("a", host="b", port=1, step="c"),
]

_FIELD = re.compile(r"[a-z_]+")


def fields_in(cell: str) -> list[str]:
    """Names of fields that are set as code, outside parentheses."""
    return [code for code in code_in(re.sub(r"\([^)]*\)", "", cell)) if _FIELD.fullmatch(code)]


TABLES = tables(README, "API reference")
PARAMETERS = {table.name: table for table in TABLES if table.head[1:2] == ["default"]}


def defaults_of(function: Callable[..., object]) -> dict[str, object]:
    """{parameter: its default, or "required"}, in order."""
    made = {
        field.name: field.default_factory()
        for field in (dataclasses.fields(function) if dataclasses.is_dataclass(function) else ())
        if field.default_factory is not dataclasses.MISSING
    }
    return {
        name: "required" if parameter.default is parameter.empty else made.get(name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def test_reference_has_a_table_for_each_callable() -> None:
    """None is left out, and no table is of something else."""
    assert sorted(PARAMETERS) == sorted(CALLABLES)


@pytest.mark.parametrize("name", CALLABLES)
def test_reference_has_the_parameters_and_no_other(name: str) -> None:
    """Each parameter in its order, with its default."""
    told = {
        code_in(parameter)[0]: "required" if default == "required" else ast.literal_eval(code_in(default)[0])
        for parameter, default, *_ in PARAMETERS[name].rows
    }
    expected = defaults_of(CALLABLES[name])
    assert list(told) == list(expected)
    assert told == expected


@pytest.mark.parametrize("owner", [processes.Task, processes.Process], ids=lambda owner: owner.__name__)
def test_reference_has_methods_as_they_are(owner: type) -> None:
    """Each is there, with these parameters."""
    (table,) = [table for table in TABLES if table.section == owner.__name__ and table.head[0] == "method"]
    for told in code_in(" ".join(row[0] for row in table.rows)):
        name, is_called, _ = told.partition("(")
        if is_called:
            method = inspect.getattr_static(owner, name)
            parameters = list(inspect.signature(getattr(method, "__func__", method)).parameters.values())[1:]
            plain = [parameter.replace(annotation=parameter.empty) for parameter in parameters]
            assert told == f"{name}{inspect.Signature(plain)}"
        else:
            assert hasattr(owner, name) or name in vars(processes.Process([]))


def test_reference_has_the_fields_of_an_entry() -> None:
    """All of them, in order."""
    (table,) = [table for table in TABLES if table.name == "TaskReportEntry"]
    told = [name for row in table.rows for name in code_in(row[0])]
    assert told == [field.name for field in dataclasses.fields(processes.TaskReportEntry)]


def test_reference_has_the_fields_of_records() -> None:
    """All of them, in order."""
    (table,) = [table for table in TABLES if table.head[0] == "record"]
    told = {code_in(row[0])[0]: fields_in(row[1]) for row in table.rows}
    records = [
        processes.ErrorData,
        processes.ExceptionData,
        processes.FrameData,
        processes.Usage,
        processes.AttemptRecord,
        processes.Delivery,
    ]
    expected = {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in records}
    expected["TaskResult"] = [*inspect.signature(processes.TaskResult).parameters, "worked"]
    assert told == expected


def test_reference_has_the_events_with_their_fields() -> None:
    """Those that `on_event` is called with."""
    (table,) = [table for table in TABLES if table.head[0] == "event"]
    told = {code_in(row[0])[0]: fields_in(row[1]) for row in table.rows}
    kinds = typing.get_args(RunEvent)
    assert told == {kind.__name__: [field.name for field in dataclasses.fields(kind)] for kind in kinds}


def test_reference_has_the_exceptions_with_their_fields() -> None:
    """Every public one."""
    (table,) = [table for table in TABLES if table.head[0] == "exception"]
    told = {code_in(row[0])[0]: fields_in(row[1]) for row in table.rows}
    assert told == {type(error).__name__: list(vars(error)) for error in ERRORS}
    public = [getattr(processes, name) for name in processes.__all__]
    kinds = [kind for kind in public if isinstance(kind, type) and issubclass(kind, processes.ProcessesError)]
    assert sorted(told) == sorted(kind.__name__ for kind in kinds if kind is not processes.ProcessesError)


SAMPLE = """
## One
| not | this |
|---|---|
| a | b |
## Two
### First
| parameter | default | |
|---|---|---|
| `a` | `1` | text |

| `Named` | |
|---|---|
| `b` (`c`), `None` | |
## Three
"""


def test_tables_are_found_with_their_section() -> None:
    """Of one chapter; a table's name is the code in its head, or its section."""
    first, named = tables(SAMPLE, "Two")
    assert first == Table("First", ["parameter", "default", ""], [["`a`", "`1`", "text"]])
    assert (first.name, named.name) == ("First", "Named")
    assert fields_in(named.rows[0][0]) == ["b"]
