"""What the public names say of themselves: units, types, what is raised, and where a fact of the system is from."""

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import processes

SOURCE = Path(processes.__file__).parent

CLASSES = [value for name in processes.__all__ if inspect.isclass(value := getattr(processes, name))]

#: {what a figure is called: one of which stands in its description}
UNITS = {
    r"timeout|deadline|delay|retry_delay|seconds|elapsed_seconds|time_seconds|cpu_user|cpu_system": ["second"],
    r"limit|used|used_by_all|memory_limit|memory_budget|memory_bytes|peak_memory|memory_growth": ["byte"],
    r"at|started_at|ended_at|generated_at": ["time zone"],
    r"pid|worker_pid": ["process id"],
    r"before|after|difference": ["seconds or bytes"],
    r"ratio|time_ratio|memory_ratio": ["times"],
    r"attempt|attempts|retries|number": [
        "1 for the first",
        "0 for a skipped",
        "0 where",
        "after the first",
        "further requests",
        "signal",
    ],
    r"max_workers|max_tasks_per_child|tasks|frames_left_out": ["at a time", "so many", "how many", "as for `run`"],
    r"line|port|indent|exitcode|status|exit_code": ["from 1", "port", "json.dumps", "exit"],
}

#: What checks an argument for its caller, and raises this.
_CHECKS = re.compile(r"require\w*|_check_\w+|_checked_\w+|_at_least")


class Described(NamedTuple):
    """A parameter, attribute or property: where it is, its type, and what is said of it."""

    owner: str
    name: str
    type: str
    text: str


def described() -> Iterator[Described]:
    """All that public classes have, in the order of their names."""
    for kind in CLASSES:
        fields = comments_of(kind)
        about = (inspect.getdoc(kind) or "").partition("Attributes:")[0]
        for name, (type_, text) in fields.items():
            yield Described(kind.__name__, name, type_, f"{text} {about}")
        for name, function in functions_of(kind):
            doc = inspect.getdoc(function) or ""
            described = arguments_in(doc)
            for parameter in itertools.islice(inspect.signature(function).parameters.values(), 1, None):
                own = described.get(parameter.name, fields.get(parameter.name, ("", ""))[1])
                # What has no section of arguments says it in a sentence that names them, or is plain attributes.
                text = own or (doc if f"`{parameter.name}`" in doc or name == "__init__" else "")
                if name == "__init__":
                    text = f"{text} {about}"
                yield Described(f"{kind.__name__}.{name}", parameter.name, str(parameter.annotation), text)
        for name, value in vars(kind).items():
            if isinstance(value, property) and not name.startswith("_"):
                type_ = str(inspect.signature(value.fget).return_annotation) if value.fget else ""
                yield Described(kind.__name__, name, type_, f"{inspect.getdoc(value) or ''} {about}")


def functions_of(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Public methods that a class has of its own, and its `__init__` unless that was generated."""
    for name, value in vars(kind).items():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")) and has_source(function):
            yield name, function


def has_source(function: Callable[..., object]) -> bool:
    """Whether it stands in a file: what a dataclass generates does not."""
    return function.__code__.co_filename.startswith(str(SOURCE))


def arguments_in(doc: str) -> dict[str, str]:
    """{parameter: what is said of it} in the section "Args:" of a docstring."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)*)", doc, re.MULTILINE)
    found = re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", section[1] if section else "", re.MULTILINE)
    return dict(found)


def comments_of(kind: type) -> dict[str, tuple[str, str]]:
    """
    {field: (type, what is said of it)} of a dataclass, and of "Attributes:" in the docstring of any class.

    Fields in a row share the comment above the first.
    """
    found: dict[str, tuple[str, str]] = {}
    said = re.search(r"^Attributes:\n((?:    .*\n?|\n)*)", inspect.getdoc(kind) or "", re.MULTILINE)
    for name, text in re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", said[1] if said else "", re.MULTILINE):
        found[name] = (types_of(kind).get(name, ""), text)
    if dataclasses.is_dataclass(kind):
        comment, was_comment = "", False
        for line in source_of(kind).splitlines():
            text = line.strip()
            if text.startswith("#:"):
                comment = f"{comment} {text[2:]}" if was_comment else text[2:]
            elif match := re.match(r"    (\w+): (.+?)(?: = .*)?$", line):
                found[match[1]] = (match[2], comment)
            elif text:
                comment = ""
            was_comment = text.startswith("#:")
        names = {field.name for field in dataclasses.fields(kind)}
        found = {name: value for name, value in found.items() if name in names}
    return found


@functools.cache
def class_sources() -> dict[str, str]:
    """{name of a class: its source}; `inspect` looks for it where a public class says that it is."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = ast.get_source_segment(text, node) or ""
    return found


def source_of(kind: type) -> str:
    """Of a public class."""
    return class_sources()[kind.__name__]


def types_of(kind: type) -> dict[str, str]:
    """{parameter of its `__init__`: type}, which an attribute of the same name has too."""
    return {name: str(parameter.annotation) for name, parameter in inspect.signature(kind).parameters.items()}


def is_figure(type_: str) -> bool:
    """Whether a value of the type may be a number or an instant; what it may hold does not count."""
    while (outer := re.sub(r"\[[^\[\]]*\]", "", type_)) != type_:
        type_ = outer
    return re.search(r"\b(int|float|datetime)\b", type_) is not None


FIGURES = [found for found in described() if is_figure(found.type)]


def test_figures_are_found() -> None:
    """Of parameters, attributes, fields and properties; without them the test below would pass by doing nothing."""
    found = {(figure.owner, figure.name) for figure in FIGURES}
    assert {
        ("Task.__init__", "timeout"),
        ("Process.run", "deadline"),
        ("Usage", "peak_memory"),
        ("WorkerCrashedError", "seconds"),
        ("FigureChange", "ratio"),
        ("SMTPConfig", "timeout"),
    } <= found


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: f"{figure.owner}.{figure.name}")
def test_figure_says_its_unit(figure: Described) -> None:
    """Seconds, bytes, what is counted, or what the number means."""
    units = [words for names, words in UNITS.items() if re.fullmatch(names, figure.name)]
    assert units, "its unit is not known here: say it in its description, and add it to UNITS"
    assert any(word in figure.text.lower() for word in units[0]), figure.text


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_class_and_its_methods_say_what_they_are(kind: type) -> None:
    """A docstring of its own for each."""
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "made by dataclass"
    for name, value in vars(kind).items():
        if not name.startswith("_") and (callable(value) or isinstance(value, property | classmethod)):
            assert inspect.getdoc(value), name


def guessed_attributes(kind: type) -> set[str]:
    """Those whose type each checker would find out by itself: neither written, nor that of a parameter."""
    guessed, written = set(), set()
    for function in ast.walk(ast.parse(source_of(kind))):
        if isinstance(function, ast.FunctionDef):
            parameters = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
            for node in ast.walk(function):
                if isinstance(node, ast.AnnAssign):
                    written.add(ast.unparse(node.target))
                elif isinstance(node, ast.Assign) and ast.unparse(node.value) not in parameters:
                    guessed |= {ast.unparse(target) for target in node.targets}
    return {name for name in guessed - written if re.fullmatch(r"self\.[a-z]\w*", name)}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_attributes_have_their_types_written(kind: type) -> None:
    """What a checker guesses another may guess otherwise."""
    assert guessed_attributes(kind) == set()


METHODS = [(f"{kind.__name__}.{name}", function) for kind in CLASSES for name, function in functions_of(kind)]


def raised_by(function: Callable[..., object]) -> Iterator[str]:
    """Names of errors that it raises itself, or that a check which it calls raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield ast.unparse(node.exc.func)
        elif isinstance(node, ast.Call) and _CHECKS.fullmatch(ast.unparse(node.func).rpartition(".")[2]):
            yield "TypeError"


@pytest.mark.parametrize(("name", "function"), METHODS, ids=[name for name, _ in METHODS])
def test_method_says_what_it_raises(name: str, function: Callable[..., object]) -> None:
    """Each error by its name, under "Raises:"."""
    raises = (inspect.getdoc(function) or "").partition("Raises:")[2]
    for error in raised_by(function):
        assert error in raises, error


def facts_of_the_system() -> Iterator[tuple[str, bool]]:
    """Each function that reads /proc or /sys, and whether it or its class says where what it finds is described."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any(map(_is_system_path, ast.walk(node))):
                owners = [owner for owner in classes if node in owner.body]
                docs = [ast.get_docstring(node), *map(ast.get_docstring, owners)]
                yield f"{path.stem}.{node.name}", any(re.search(r"\bSources?: ", doc or "") for doc in docs)


def _is_system_path(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("/proc/", "/sys/"))


FACTS = list(facts_of_the_system())


@pytest.mark.parametrize(("name", "is_told"), FACTS, ids=[name for name, _ in FACTS])
def test_fact_of_the_system_has_a_source(name: str, is_told: bool) -> None:
    """What is read from the kernel's files is described in a manual page, which is named."""
    assert is_told
