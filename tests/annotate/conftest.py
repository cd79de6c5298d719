import pytest

from vlalign.annotate.tiny_parser import train_parser


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A parser that has seen few trees: it knows the common captions, not all."""
    folder = tmp_path_factory.mktemp("parser")
    train_parser(folder, seed=0, trees=200, epochs=4)
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Every connection is refused."""

    def refuse(*arguments, **options):
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.create_connection", refuse)
