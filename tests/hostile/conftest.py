"""One world of the hostile tests a process: commands run in forked children (`fork_server.py`)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fork_server import HEAVY, LIGHT, ForkServer
from hostile_world import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Commands start in 50 ms; what needs TensorFlow loads it."""
    server = ForkServer(LIGHT)
    yield World(tmp_path_factory.mktemp("hostile"), server)
    server.close()


@pytest.fixture(scope="session")
def deep_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """TensorFlow is there already."""
    server = ForkServer(HEAVY)
    yield World(tmp_path_factory.mktemp("deep"), server, deep=True)
    server.close()
