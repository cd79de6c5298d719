import contextlib
import itertools
import tempfile
from pathlib import Path

import httpx2
import pytest
from fetching import by_name, held, hub_source, point_at, shards, url_source
from hub_server import POURED, HubServer, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.data.shards.fetch import _refuse_long_pause, fetch
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture
def small_pieces(monkeypatch):
    """The library writes 10 MB at a time, which is more than these files have."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)


@pytest.mark.parametrize("fault", PASSING)
def test_a_file_survives_a_fault_that_comes_back(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = iter([fault] * 4)
    fetch(source, tmp_path)
    assert held(tmp_path) == by_name(FILES)


@pytest.mark.usefixtures("small_pieces")
def test_a_transfer_goes_on_where_it_broke_off(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", "truncated"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", "bytes=75000-"]
    assert held(tmp_path) == by_name(FILES)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("second", ["wrong", "no range", "shortened"])
def test_a_file_that_is_another_between_two_attempts_is_fetched_from_its_start(hub, source, tmp_path, second):
    hub.faults[FAULTY] = iter(["truncated", second])
    fetch(source, tmp_path)
    assert held(tmp_path) == by_name(FILES)


@pytest.mark.usefixtures("small_pieces")
def test_attempts_count_only_while_nothing_new_arrives(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", *[500] * 4] * 4)
    fetch(source, tmp_path)
    assert held(tmp_path) == by_name(FILES)
    hub.faults[FAULTY] = iter(["truncated", *[500] * 40])
    (tmp_path / "0001.tar").unlink()
    with pytest.raises(VlalignError, match="answers 500, 6 times"):
        fetch(source, tmp_path)


def test_a_fault_of_one_file_takes_no_attempt_from_others(hub, tmp_path):
    files = shards(9)
    hub.commit(files)
    hub.faults = {path: iter(["truncated", 500]) for path in files}
    fetch(hub_source(connections=2), tmp_path)
    assert held(tmp_path) == by_name(files)


@pytest.mark.usefixtures("small_pieces")
def test_no_more_is_read_than_the_file_has(hub, tmp_path):
    hub.commit(FILES)
    hub.faults[FAULTY] = iter(["endless"])
    fetch(hub_source(), tmp_path)
    assert held(tmp_path) == by_name(FILES)
    assert hub.poured < POURED


@pytest.mark.usefixtures("small_pieces")
def test_an_error_ends_the_other_transfers(hub, tmp_path):
    def refuse_when_another_runs():
        hub.stalled.wait(30)
        yield 404

    hub.commit(FILES)
    hub.faults = {FAULTY: iter(["trickle"]), "train/0000.tar": refuse_when_another_runs()}
    with pytest.raises(VlalignError, match="404"):
        fetch(hub_source(), tmp_path)
    # The whole file takes a hundred pieces, and two seconds.
    assert hub.poured < 80 * len(FILES[FAULTY])


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_of_hours_is_an_error(hub, source, tmp_path, status):
    hub.pause = 7200
    hub.faults[FAULTY] = iter([status])
    with pytest.raises(VlalignError, match=rf"answers {status} and asks to wait for 7200 s; run again after that"):
        fetch(source, tmp_path)


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Retry-After": "900"}, False),
        ({"Retry-After": "901"}, True),
        ({"Retry-After": "soon"}, False),
        ({"RateLimit": '"resolvers";r=0;t=901'}, True),
        ({"RateLimit": '"resolvers";r=12;t=901', "Retry-After": "3"}, False),
    ],
)
def test_servers_say_in_their_ways_how_long_to_wait(headers, refused):
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("GET", "http://h/a"))
    with pytest.raises(VlalignError) if refused else contextlib.nullcontext():
        _refuse_long_pause(response)
