from pathlib import Path

import pytest
from fetching import point_at
from hub_server import HubServer


@pytest.fixture(scope="session")
def repository():
    return Path(__file__).parents[2]


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine in place of the real one, and attempts that follow each other at once."""
    with HubServer() as server:
        point_at(server, monkeypatch)
        yield server
