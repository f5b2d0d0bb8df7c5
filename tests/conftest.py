"""What every test gets: a look at what it left behind, and a gate to hold tasks."""

import faulthandler
import gc
import re
import signal
import tempfile
from collections.abc import Generator, Iterator
from types import FrameType

import pytest

from support import leaks
from support.gate import Gate
from support.side_by_side import is_for_this_python, is_in_share

_raised = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", metavar="K/N", help="run the K-th of N shares of the tests")
    parser.addoption("--thorough", action="store_true", help="storms and chaos at full size")


def pytest_configure() -> None:
    """
    See to it that tests and the programs they start can be interrupted, also under `nohup` or started by a shell's `&`.

    An ignored signal stays ignored in a program that is started; one with a handler gets its default there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Go on, as one does that ignores a signal."""


@pytest.hookimpl(tryfirst=True)  # Other selections, made in every share, choose from what it has.
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of other shares to other processes."""
    for item in items:
        if re.search(r" at 0x[0-9a-f]+", item.nodeid):
            raise pytest.UsageError(
                f"A name with an address is another in each process, and so in no share: {item.nodeid}"
            )
    if share := config.getoption("share"):
        others = [item for item in items if not (is_in_share(item.nodeid, share) and _is_for_this_python(item))]
        left_out = set(others)
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=others)


def _is_for_this_python(item: pytest.Item) -> bool:
    """See `is_for_this_python`; a test that takes no start method is."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return True
    parameters = dict(item.callspec.params)
    methods = [parameters.pop(name, None) for name in ("method", "way")]
    # As the other parameters tell tests apart, and their values need not have a name.
    indices = [(name, index) for name, index in sorted(item.callspec.indices.items()) if name in parameters]
    return all(is_for_this_python(f"{item.originalname} {indices}", method) for method in methods)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep, for `_nothing_is_left_behind`, whether the test raised."""
    if call.when == "call":
        item.stash[_raised] = call.excinfo is not None
    return (yield)


def pytest_collection_finish() -> None:
    """
    Keep the objects of pytest and of all test modules out of garbage collections, for they stay to the end.

    Every test ends with a collection, which would go through them: two hundred thousand, a tenth of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests and their children put temporary files where nobody else does: any found there is theirs."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session")
def _descendants_are_marked() -> None:
    leaks.mark_descendants()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(
    request: pytest.FixtureRequest, _own_temporary_folder: None, _descendants_are_marked: None
) -> Iterator[None]:
    """A test that leaves a process, thread, descriptor, shared memory or temporary file behind fails."""
    before = leaks.take_stock()
    yield
    if request.node.stash.get(_raised, True):
        return  # Its traceback holds its variables, and so what they own; it has failed already.
    left = leaks.wait_for_leaks(before, leaks.SETTLE_TIME_S)
    if left:
        left.kill_processes()
        pytest.fail("Left behind:\n" + "\n".join(left.lines), pytrace=False)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that lets everybody on when the test ends."""
    with Gate() as gate:
        yield gate


@pytest.fixture
def no_watchdog() -> None:
    """For a test that forks: a process with threads may not, and faulthandler_timeout has one. Ends it."""
    faulthandler.cancel_dump_traceback_later()
