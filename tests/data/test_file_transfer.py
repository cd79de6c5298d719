import itertools
import tempfile
from pathlib import Path

import pytest
from fetching import by_name, held, hub_source, point_at, shards, url_source
from hub_server import HubServer, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.data.fetch import fetch
from vlalign.data.sources.urls import UrlSource
from vlalign.errors import VlalignError

FILES = shards(3)
FAULTY = "train/0001.tar"
PASSING = ("silence", "drop", "truncated", "no range", 408, 429, 500, 503)
DAMAGING = ("wrong", "long", "short")
FINAL = (401, 403, 404, 410)


@pytest.fixture(params=["hub", "urls"])
def source(request, hub):
    """The same files on the hub and at plain addresses."""
    hub.commit(FILES)
    return hub_source(connections=1) if request.param == "hub" else url_source(hub, FILES, connections=1)


def fails(source, directory, message):
    """Nothing wrong has its name afterwards, and nothing vouches for the folder."""
    with pytest.raises(VlalignError, match=message):
        fetch(source, directory)
    assert held(directory).items() <= by_name(FILES).items()
    assert "0001.tar" not in held(directory)
    assert not (directory / "shards.json").exists()


@pytest.mark.parametrize("fault", [*PASSING, *DAMAGING])
def test_a_file_survives_a_fault(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = iter([fault])
    fetch(source, tmp_path)
    assert held(tmp_path) == by_name(FILES)


@pytest.mark.parametrize("fault", ["silence", "drop", "truncated", 429, 503])
def test_a_fault_that_stays_is_an_error_and_the_next_run_goes_on(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = itertools.repeat(fault)
    fails(source, tmp_path, r"6 times; what has arrived is kept: check the network")
    hub.faults.clear()
    hub.requests.clear()
    fetch(source, tmp_path)
    assert held(tmp_path) == by_name(FILES)
    assert hub.asked()["train/0000.tar"] == 0


@pytest.mark.parametrize("fault", ["wrong", "long"])
def test_wrong_bytes_are_an_error_that_names_file_and_hash(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = itertools.repeat(fault)
    fails(source, tmp_path, rf"{FAULTY} (brought wrong bytes, their hash is not {sha256(FILES[FAULTY])}|broke off)")


@pytest.mark.parametrize("fault", FINAL)
def test_a_refusal_is_an_error_at_once(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = itertools.repeat(fault)
    fails(source, tmp_path, rf"^source.*{fault}")
    assert hub.asked()[FAULTY] == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [("loop", "cannot be fetched .*redirect"), ("to a file", "cannot be fetched"), ("page", "brought wrong bytes")],
)
def test_servers_that_lead_astray_are_an_error(hub, tmp_path, fault, message):
    source = url_source(hub, FILES, connections=1)
    hub.faults[FAULTY] = itertools.repeat(fault)
    fails(source, tmp_path, message)


def test_a_file_at_a_plain_address_goes_on_where_it_broke_off(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    source = url_source(hub, FILES, connections=1)
    hub.faults[FAULTY] = iter(["truncated", "truncated"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", "bytes=75000-"]
    assert held(tmp_path) == by_name(FILES)


def test_the_messages_of_a_plain_address_name_it(hub, tmp_path):
    source = url_source(hub, FILES, connections=1)
    hub.files.clear()
    with pytest.raises(VlalignError, match=r"data\.files: http://127\S+/files/train/0000\.tar answers 404; correct"):
        fetch(source, tmp_path, key="data")


@pytest.fixture
def local(tmp_path):
    """A file of this machine, and the source that names it."""
    path = tmp_path / "from here" / "a.tar"
    path.parent.mkdir()
    path.write_bytes(b"content")
    return path, UrlSource(source="urls", files=({"url": path.as_uri(), "sha256": sha256(b"content")},))


def test_files_of_this_machine_are_copied(local, tmp_path):
    path, source = local
    fetch(source, tmp_path / "to")
    assert held(tmp_path / "to") == {"a.tar": b"content"}
    assert path.exists()


def test_copies_are_verified(local, tmp_path):
    path, source = local
    path.write_bytes(b"CONTENT")
    with pytest.raises(VlalignError, match="wrong bytes, their hash is not"):
        fetch(source, tmp_path / "to")
    assert held(tmp_path / "to") == {}


def test_a_missing_file_of_this_machine_is_named(local, tmp_path):
    path, source = local
    path.unlink()
    with pytest.raises(VlalignError, match=r"from%20here/a\.tar does not exist on this machine"):
        fetch(source, tmp_path / "to")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from([*PASSING, "short", *DAMAGING, *FINAL]), max_size=6), min_size=5, max_size=5))
def test_whatever_happens_only_right_files_get_their_names(faults):
    files = shards(5, size=20_000)
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        point_at(hub, patch)
        hub.commit(files)
        hub.faults = {path: iter(sequence) for path, sequence in zip(files, faults, strict=True)}
        harmless = all(fault in (*PASSING, "short") for sequence in faults for fault in sequence)
        try:
            fetch(hub_source(), folder)
        except VlalignError:
            assert not harmless
            assert held(Path(folder)).items() <= by_name(files).items()
            assert not (Path(folder) / "shards.json").exists()
            hub.faults.clear()
            fetch(hub_source(), folder)
        assert held(Path(folder)) == by_name(files)
