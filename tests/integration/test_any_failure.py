"""Whatever a task raises or returns, each task gets the right entry: exceptions and results made by Hypothesis."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processes import Process, Task
from support.held import HELD, Behaviour, Odd, OddBase, raise_held, return_held
from support.pools import pool

SOME = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.just("\udcff"),
)
VALUES = st.recursive(
    SOME,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=8,
)


def _caused(error: BaseException, cause: BaseException, is_cause: bool) -> BaseException:
    if is_cause:
        error.__cause__ = cause
    else:
        error.__context__ = cause
    return error


def _noted(error: BaseException, notes: list[str]) -> BaseException:
    for note in notes:
        error.add_note(note)
    return error


BEHAVIOURS = st.sampled_from(Behaviour)
PLAIN = st.builds(
    lambda kind, args: kind(*args),
    st.sampled_from([ValueError, KeyError, OSError, StopIteration, SystemExit, KeyboardInterrupt, GeneratorExit]),
    st.lists(VALUES, max_size=2),
)
EXCEPTIONS: st.SearchStrategy[BaseException] = st.recursive(
    st.one_of(PLAIN, st.builds(Odd, BEHAVIOURS, BEHAVIOURS, BEHAVIOURS, VALUES), st.builds(OddBase)),
    lambda inner: st.one_of(
        st.builds(lambda members: BaseExceptionGroup("several", members), st.lists(inner, min_size=1, max_size=3)),
        st.builds(_caused, inner, inner, st.booleans()),
        st.builds(_noted, inner, st.lists(st.text(max_size=10), max_size=2)),
    ),
    max_leaves=4,
)


SETTINGS = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(st.lists(EXCEPTIONS, min_size=5, max_size=20))
def test_every_exception_fails_its_own_task(errors: list[BaseException]) -> None:
    """4.2: each task has failed, with its own exception's type; all others are there."""
    tasks = [Task(f"e{n}", raise_held, args=(n,)) for n in range(len(errors))]
    for mode in (None, "threads", "fork"):
        HELD[:] = errors
        report = Process([*tasks, Task("fine", int)]).run(pool("fork") if mode == "fork" else mode, 2)
        assert report.entries["fine"].result == 0
        for n, error in enumerate(errors):
            entry = report.entries[f"e{n}"]
            assert entry.error is not None
            assert entry.error.exception_type.rpartition(".")[2] == type(error).__name__
            assert isinstance(entry.error.exception, str)
            assert entry.error.traceback_str
            assert entry.attempts == 1
            assert isinstance(entry.exception, BaseException)


@SETTINGS
@given(st.lists(st.one_of(VALUES, EXCEPTIONS), min_size=5, max_size=20))
def test_every_result_comes_or_fails_its_own_task(values: list[object]) -> None:
    """4.2: it can be read, or its task has failed and says that it cannot be pickled."""
    tasks = [Task(f"v{n}", return_held, args=(n,)) for n in range(len(values))]
    HELD[:] = values
    report = Process([*tasks, Task("fine", int)]).run(pool("fork"), 2)
    assert report.entries["fine"].result == 0
    for n, value in enumerate(values):
        entry = report.entries[f"v{n}"]
        if entry.error is None:
            assert type(entry.result) is type(value)
        else:
            assert entry.error.exception_type == "processes.UnpicklableError"
