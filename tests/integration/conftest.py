"""The modes in which a process runs."""

import pytest

_LOCAL = (None, "threads")
_CONCURRENT = ("threads", "processes")


def _name(mode: str | None) -> str:
    return mode or "sequential"


@pytest.fixture(params=(*_LOCAL, "processes"), ids=_name)
def mode(request: pytest.FixtureRequest) -> str | None:
    """Every mode, for `Process.run(parallel=mode)`."""
    return _mode_of(request)


@pytest.fixture(params=_LOCAL, ids=_name)
def local_mode(request: pytest.FixtureRequest) -> str | None:
    """The modes in which tasks run in this process, where nothing can be killed."""
    return _mode_of(request)


@pytest.fixture(params=_CONCURRENT, ids=_name)
def concurrent_mode(request: pytest.FixtureRequest) -> str | None:
    """The modes in which several tasks run at a time."""
    return _mode_of(request)


def _mode_of(request: pytest.FixtureRequest) -> str | None:
    mode: str | None = request.param
    return mode
