"""An exception becomes plain data, whatever it is and whatever stands in its locals."""

import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import pytest

from processes import failure
from processes.failure import LOCAL_CHARS_MAX, LOCALS_MAX, TEXT_CHARS_MAX, Failure, bounded_repr, capture, of_error


def raised_by(function: Callable[[], object]) -> BaseException:
    """What a function raises, with its traceback."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001  that is what is wanted
        return error
    pytest.fail("it raised nothing")


def call_json() -> object:
    """A user's function: the error is raised in the library below it."""
    mine = "not json"
    return json.loads(mine)


def raise_value_error() -> NoReturn:
    """A user's function that raises itself."""
    number, text = 3, "some text"
    msg = f"{number} {text}"
    raise ValueError(msg)


def raise_(error: BaseException) -> NoReturn:
    raise error


def line_of(function: Callable[..., object], text: str) -> str:
    """`file:line` of the first line of a function that holds a text."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    number = next(number for number, line in enumerate(lines, first) if text in line)
    return f"{__file__}:{number}"


# ---- the failure -----------------------------------------------------------------------------------------------------


def test_capture_tells_type_text_and_place() -> None:
    """The facts of an exception raised by the user's own code."""
    found = capture(raised_by(raise_value_error))
    assert (found.exception_type, found.exception) == ("ValueError", "3 some text")
    assert found.traced_vars == {"number": "3", "text": "'some text'", "msg": "'3 some text'"}
    assert found.traced_vars_location == line_of(raise_value_error, "raise ValueError")


def test_capture_survives_its_trip() -> None:
    """It is plain data, and its fields make it again."""
    found = capture(raised_by(raise_value_error))
    assert Failure._make(found) == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_capture_without_traceback_has_no_frame() -> None:
    """An exception that was never raised."""
    found = capture(ValueError("never raised"))
    assert (found.traced_vars, found.traced_vars_location) == ({}, "")
    assert found.traceback_str == "ValueError: never raised\n"


def test_of_error_reads_like_a_traceback() -> None:
    """A death or a time-out has no frames."""
    assert of_error(TimeoutError("too late")) == Failure("TimeoutError", "too late", "TimeoutError: too late\n", {}, "")


class OwnError(Exception):
    """Of this module."""


def test_type_name_is_qualified_unless_builtin() -> None:
    """As a traceback shows it."""
    assert capture(json.JSONDecodeError("m", "", 0)).exception_type == "json.decoder.JSONDecodeError"
    assert capture(KeyError()).exception_type == "KeyError"
    assert capture(OwnError()).exception_type == f"{__name__}.OwnError"
    assert capture(type("FromMain", (Exception,), {"__module__": "__main__"})()).exception_type == "FromMain"


# ---- the frame -------------------------------------------------------------------------------------------------------


def test_frame_is_the_innermost_of_the_users_own() -> None:
    """Library code below it is passed over: its locals say nothing to the user."""
    found = capture(raised_by(call_json))
    assert found.exception_type == "json.decoder.JSONDecodeError"
    assert found.traced_vars == {"mine": "'not json'"}
    assert found.traced_vars_location == line_of(call_json, "json.loads")


@pytest.mark.parametrize("file", ["/usr/src/app/etl.py", "/usr/local/app/etl.py", f"{sys.base_prefix}/app/etl.py"])
def test_frame_below_the_prefix_is_the_users(file: str) -> None:
    """C9: with a system's own Python the prefix is /usr, where applications live as well."""
    namespace: dict[str, Any] = {"json": json}
    exec(compile("def mine():\n    what = 'mine'\n    json.loads('not json')", file, "exec"), namespace)  # noqa: S102
    found = capture(raised_by(namespace["mine"]))
    assert found.traced_vars == {"what": "'mine'"}
    assert found.traced_vars_location == f"{file}:3"


@pytest.mark.parametrize("folder", ["lib/python3/dist-packages", "lib/python3.12/site-packages", ".venv/lib"])
def test_frame_of_an_installed_package_is_the_librarys(folder: str) -> None:
    """Debian's place for packages included; one that is installed to be edited has its files elsewhere."""
    namespace: dict[str, Any] = {}
    exec(compile("def theirs():\n    what = 'theirs'\n    raise ValueError", f"/x/{folder}/p.py", "exec"), namespace)  # noqa: S102

    def mine() -> None:
        what = "mine"  # noqa: F841
        namespace["theirs"]()

    found = capture(raised_by(mine))
    assert found.traced_vars["what"] == "'mine'"
    assert found.traced_vars_location.startswith(f"{__file__}:")


def test_frame_filter_chooses_by_file_name() -> None:
    """The innermost frame whose file name holds the text, of a library too."""
    found = capture(raised_by(call_json), "json")
    assert "json/decoder.py:" in found.traced_vars_location
    assert found.traced_vars["s"] == "'not json'"
    outer = capture(raised_by(call_json), "test_failure")
    assert outer.traced_vars == {"mine": "'not json'"}


def test_frame_filter_distinguishes_case() -> None:
    """It is a text, not a name."""
    assert "json/decoder.py:" in capture(raised_by(call_json), "json").traced_vars_location
    assert (
        capture(raised_by(call_json), "JSON/DEC").traced_vars_location
        == capture(raised_by(call_json), "no such file").traced_vars_location
    )


def test_frame_filter_that_fits_nothing_takes_the_innermost() -> None:
    """Better the library's frame than none."""
    assert "json/decoder.py:" in capture(raised_by(call_json), "no such file").traced_vars_location


def test_frame_line_is_the_tracebacks() -> None:
    """Not the one that the frame has reached since."""

    def goes_on() -> BaseException | None:
        kept = None
        try:
            int("x")
        except ValueError as error:
            kept = error
        return kept

    error = goes_on()
    assert error is not None
    assert capture(error).traced_vars_location == line_of(goes_on, 'int("x")')


def test_frames_of_ours_are_left_out() -> None:
    """How a task is called says nothing to the user, not in the traceback, nor as the chosen frame."""
    error = raised_by(lambda: bounded_repr.__globals__["_is_ours"](None))
    own = error.__traceback__
    assert own is not None
    found = capture(error.with_traceback(own.tb_next), "failure.py")
    assert "test_failure" in found.traced_vars_location


# ---- locals ----------------------------------------------------------------------------------------------------------


class Bad:
    """Nothing of it can be looked at."""

    def __repr__(self) -> str:
        msg = "no repr"
        raise LookupError(msg)


class Worse:
    """Not even its attributes, and it wants to end the program."""

    def __getattr__(self, name: str) -> NoReturn:
        raise SystemExit(name)

    def __repr__(self) -> NoReturn:
        raise KeyboardInterrupt


class Huge:
    """It says too much."""

    def __repr__(self) -> str:
        return "x" * 10**6


class Vain(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise Vain


def test_repr_that_raises_is_said() -> None:
    """The other locals are shown all the same."""

    def fails() -> NoReturn:
        before, bad, worse, after = 1, Bad(), Worse(), 2
        raise OwnError(before, after, id(bad), id(worse))

    found = capture(raised_by(fails)).traced_vars
    assert list(found) == ["before", "bad", "worse", "after"]
    assert (found["before"], found["after"]) == ("1", "2")
    assert found["bad"] == "<unreprable: LookupError: no repr>"
    assert found["worse"].startswith("<unreprable: ")


@pytest.mark.parametrize(
    "value",
    [Huge(), "x" * 10**6, b"x" * 10**6, ["y" * 999] * 999, dict.fromkeys(range(999), "y" * 99), 10**5000, [[[[[[]]]]]]],
    ids=["huge", "text", "bytes", "list", "dict", "int", "deep"],
)
def test_repr_is_bounded(value: object) -> None:
    """However large the value, its text is not."""
    assert len(bounded_repr(value)) <= LOCAL_CHARS_MAX + 200


def test_repr_of_a_circle_ends() -> None:
    """A list may hold itself."""
    circle: list[object] = []
    circle.append(circle)
    assert bounded_repr(circle).startswith("[[")


@pytest.mark.parametrize("value", [1, 1.5, "a'b", None, [1, (2,)], {"a": {1}}, b"x", "frame_marker_value"], ids=repr)
def test_repr_of_small_values_is_their_own(value: object) -> None:
    """Nothing is cut that is not long."""
    assert bounded_repr(value) == repr(value)


def test_repr_of_an_array_is_shape_and_dtype() -> None:
    """Its content could be gigabytes."""
    assert bounded_repr(np.zeros((3, 4))) == "<numpy.ndarray shape=(3, 4) dtype=float64>"
    assert "shape=(1000000,)" in bounded_repr({"inside": np.zeros(10**6, dtype="i4")})


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_repr_of_many_bytes_shows_the_first(kind: type[bytes | bytearray]) -> None:
    """Without making the text of all of them; few are shown whole."""
    shown = bounded_repr(kind(b"x" * 10**7))
    assert shown.startswith(f"<{kind.__name__} of 10000000 bytes: ")
    assert shown.endswith("xxx')...>" if kind is bytearray else "xxx'...>")
    assert len(shown) < LOCAL_CHARS_MAX
    assert bounded_repr(kind(b"few")) == repr(kind(b"few"))


def test_repr_of_a_table_is_its_shape() -> None:
    """A data frame has no dtype of its own."""

    class Table:
        shape = (10, 2)

    assert bounded_repr(Table()).endswith("Table shape=(10, 2)>")


def test_locals_are_bounded_in_number() -> None:
    """A frame with more says how many."""
    names = [f"v{number}" for number in range(LOCALS_MAX + 7)]
    source = "\n".join([f"{name} = 0" for name in names])
    scope: dict[str, Any] = {}
    exec(f"def many():\n{_indented(source)}\n    raise ValueError", scope)  # noqa: S102  a hundred lines of no interest
    found = capture(raised_by(scope["many"])).traced_vars
    assert list(found) == [*names[:LOCALS_MAX], "..."]
    assert found["..."] == "<7 more>"


def _indented(source: str) -> str:
    return "\n".join("    " + line for line in source.splitlines())


# ---- text ------------------------------------------------------------------------------------------------------------


def test_exception_whose_text_raises_is_captured() -> None:
    """Type and frame are known; of the text, that there is none."""

    def fails() -> NoReturn:
        raise Vain

    found = capture(raised_by(fails))
    assert found.exception_type.endswith("Vain")
    assert "raised" in found.exception
    assert found.traceback_str


def test_exception_text_is_bounded() -> None:
    """The ends are kept, and what is missing is counted."""
    text = capture(ValueError("a" * TEXT_CHARS_MAX + "b" * TEXT_CHARS_MAX)).exception
    assert len(text) < TEXT_CHARS_MAX + 100
    assert text.startswith("a")
    assert text.endswith("b")
    assert f"[{TEXT_CHARS_MAX} characters left out]" in text


def test_shorten_leaves_what_fits() -> None:
    """Up to the limit nothing changes."""
    assert failure.shorten("12345", 5) == "12345"
    assert failure.shorten("1234567", 4) == "12 ... [3 characters left out] ... 67"


def test_traceback_is_that_of_the_interpreter() -> None:
    """Frame by frame, with source lines."""
    error = raised_by(call_json)
    assert capture(error).traceback_str == "".join(traceback.format_exception(error))


def test_traceback_holds_causes_and_contexts() -> None:
    """All that led to it, both ways."""

    def between() -> None:
        try:
            os.environ["THE CAUSE"]
        except KeyError as error:
            msg = "between"
            raise ValueError(msg) from error

    def fails() -> None:
        try:
            between()
        finally:
            raise OwnError("the last")

    text = capture(raised_by(fails)).traceback_str
    assert "KeyError: 'THE CAUSE'" in text
    assert "direct cause" in text
    assert "ValueError: between" in text
    assert "During handling" in text
    assert text.rstrip().endswith("OwnError: the last")


def test_traceback_holds_notes() -> None:
    """What was added on the way up."""
    error = raised_by(raise_value_error)
    error.add_note("a note of the user's")
    assert capture(error).traceback_str.endswith("a note of the user's\n")


def test_traceback_holds_the_members_of_a_group() -> None:
    """Each with its own."""
    group = BaseExceptionGroup("two", [ValueError("first"), raised_by(call_json)])
    text = capture(group).traceback_str
    assert "ValueError: first" in text
    assert "JSONDecodeError" in text


def test_traceback_of_an_endless_recursion_is_short() -> None:
    """A thousand equal frames are told once."""

    def again() -> object:
        return again()

    found = capture(raised_by(again))
    assert found.exception_type == "RecursionError"
    assert len(found.traceback_str) < 5000


def test_chain_of_many_groups_is_bounded() -> None:
    """Groups of groups of groups could be millions."""

    def group(depth: int) -> ExceptionGroup[Exception]:
        return ExceptionGroup("g", [group(depth - 1) if depth else ValueError() for _ in range(5)])

    def count(chain: tuple[Any, ...]) -> int:
        return sum(1 + sum(map(count, link[6])) for link in chain)

    assert count(capture(raised_by(partial(raise_, group(4)))).chain) <= failure.EXCEPTIONS_MAX


class OddCause(Exception):
    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override, mutable-override]
        raise ZeroDivisionError


def test_capture_survives_a_cause_that_cannot_be_had() -> None:
    """The rest of what is known is told."""
    found = capture(raised_by(partial(raise_, OddCause("odd"))))
    assert (found.exception, found.chain) == ("odd", ())
    assert found.traced_vars_location


def test_capture_takes_exceptions_that_are_no_errors() -> None:
    """A task may want to end the program."""

    def leaves() -> NoReturn:
        raise SystemExit(3)

    found = capture(raised_by(leaves))
    assert (found.exception_type, found.exception) == ("SystemExit", "3")
