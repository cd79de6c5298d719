import email.utils
import itertools
import tempfile
import threading
import time
from pathlib import Path

import pytest
from fetching import by_name, held, hub_source, parts, point_at, shards, url_source
from hub_server import POURED, HubServer, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

from vlalign.data import transfer
from vlalign.data.download import fetch
from vlalign.data.remote import RemoteFile
from vlalign.data.sources.urls import UrlSource
from vlalign.errors import VlalignError

FILES = shards(3)
FAULTY = "train/0001.tar"
PASSING = ("silence", "drop", "truncated", "no range", 408, 429, 500, 503)
DAMAGING = ("wrong", "long")
FINAL = (401, 403, 404, 410)


@pytest.fixture(params=["hub", "urls"])
def source(request, hub):
    """The same files on the hub and at plain addresses: transfers are alike."""
    hub.commit(FILES)
    return hub_source(connections=1) if request.param == "hub" else url_source(hub, FILES, connections=1)


def check(directory, names):
    """All of these files have their names, and no others."""
    assert held(directory) == {name: by_name(FILES)[name] for name in names}


@pytest.mark.parametrize("fault", [*PASSING, *DAMAGING, "short"])
def test_a_file_survives_a_fault(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = iter([fault])
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))
    assert parts(tmp_path) == []


@pytest.mark.parametrize("fault", PASSING)
def test_a_file_survives_a_fault_that_comes_back(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = iter([fault] * 4)
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))


def test_an_answer_that_is_too_short_is_continued_where_the_size_is_known(hub, tmp_path):
    hub.commit(FILES)
    hub.faults[FAULTY] = iter(["short", "short"])
    fetch(hub_source(), tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", "bytes=75000-"]
    check(tmp_path, by_name(FILES))


@pytest.mark.parametrize("fault", ["silence", "drop", "truncated", 429, 503])
def test_a_fault_that_stays_is_an_error_and_the_next_run_goes_on(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = itertools.repeat(fault)
    with pytest.raises(VlalignError, match=r"0001\.tar .*8 times without anything new; .*is kept: check the network"):
        fetch(source, tmp_path)
    check(tmp_path, ["0000.tar"])
    (part,) = (name for name in parts(tmp_path) if "0001" in name)
    kept = (tmp_path / part).stat().st_size
    assert by_name(FILES)["0001.tar"].startswith((tmp_path / part).read_bytes())
    assert (kept > 90_000) == (fault in ("drop", "truncated"))
    hub.faults.clear()
    hub.requests.clear()
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))
    assert hub.ranges(FAULTY) == [f"bytes={kept}-" if kept else None]
    assert hub.asked()["train/0000.tar"] == 0


@pytest.mark.parametrize("fault", DAMAGING)
def test_wrong_bytes_twice_are_an_error_with_both_hashes(hub, source, tmp_path, fault):
    hub.faults[FAULTY] = itertools.repeat(fault)
    expected = sha256(FILES[FAULTY])
    with pytest.raises(VlalignError, match=rf"{FAULTY} brought wrong bytes 2 times: hash \w+, expected {expected}"):
        fetch(source, tmp_path)
    check(tmp_path, ["0000.tar"])
    assert hub.ranges(FAULTY) == [None, None]
    assert not any("0001" in name for name in parts(tmp_path))
    assert not (tmp_path / "shards.json").exists()


def test_a_file_that_changes_between_two_attempts_is_fetched_from_its_start(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", "wrong"])
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", None]


def test_a_file_that_has_changed_for_good_is_an_error(hub, source, tmp_path):
    hub.faults[FAULTY] = itertools.chain(["truncated"], itertools.repeat("wrong"))
    with pytest.raises(VlalignError, match="wrong bytes 2 times"):
        fetch(source, tmp_path)
    check(tmp_path, ["0000.tar"])


def test_a_transfer_goes_on_where_it_broke_off(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", "truncated"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", "bytes=75000-"]
    check(tmp_path, by_name(FILES))


def test_a_server_that_ignores_ranges_sends_the_file_from_its_start(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", "no range"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-"]
    check(tmp_path, by_name(FILES))


def test_attempts_count_only_while_nothing_new_arrives(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", *[503] * 6] * 3)
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))
    hub.faults[FAULTY] = iter(["truncated", *[503] * 8])
    (tmp_path / "0001.tar").unlink()
    with pytest.raises(VlalignError, match="answers 503"):
        fetch(source, tmp_path)


def test_a_complete_partial_file_needs_no_bytes(hub, source, tmp_path):
    part = tmp_path / f".0001.tar.{sha256(FILES[FAULTY])[:16]}.part"
    part.write_bytes(FILES[FAULTY])
    fetch(source, tmp_path)
    check(tmp_path, by_name(FILES))
    # Of a plain address, only the server knows that nothing is left.
    assert hub.ranges(FAULTY) in ([], ["bytes=100000-"])


def test_no_more_is_read_than_the_file_has(hub, tmp_path):
    hub.commit(FILES)
    hub.faults[FAULTY] = iter(["endless"])
    fetch(hub_source(), tmp_path)
    check(tmp_path, by_name(FILES))
    assert hub.poured < POURED


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


def test_a_run_that_has_ended_begins_nothing(tmp_path):
    def never(*_):
        raise AssertionError

    ended = threading.Event()
    ended.set()
    transfers = transfer.Transfers(tmp_path, headers={}, explain=never, advance=never, ended=ended)
    transfers.bring(RemoteFile("a.tar", "http://127.0.0.1:1/a.tar", "0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_become_shorter_is_fetched_from_its_start(hub, source, tmp_path):
    hub.faults[FAULTY] = iter(["truncated", "shortened"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-", None]
    check(tmp_path, by_name(FILES))


@pytest.mark.parametrize("status", FINAL)
def test_a_refusal_is_an_error_at_once(hub, source, tmp_path, status):
    hub.faults[FAULTY] = itertools.repeat(status)
    with pytest.raises(VlalignError, match=rf"source.*{status}"):
        fetch(source, tmp_path)
    assert hub.asked()[FAULTY] == 1
    check(tmp_path, ["0000.tar"])


def test_the_messages_of_a_plain_address_name_it(hub, tmp_path):
    source = url_source(hub, FILES, connections=1)
    hub.files.clear()
    with pytest.raises(VlalignError, match=r"data\.files: http://127\S+/files/train/0000\.tar answers 404; correct"):
        fetch(source, tmp_path, key="data")


def test_a_server_that_is_silent_is_asked_again(hub, source, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", (5.0, 0.2))
    hub.faults[FAULTY] = iter(["stall"])
    fetch(source, tmp_path)
    assert hub.ranges(FAULTY) == [None, "bytes=50000-"]
    check(tmp_path, by_name(FILES))


def test_all_threads_pause_when_the_server_asks_for_it(hub, tmp_path):
    hub.commit(FILES)
    hub.pause = 1
    hub.faults["train/0000.tar"] = iter([429])
    # The second thread is kept busy until the first has been told to wait.
    hub.faults[FAULTY] = iter(["stall"])
    threading.Timer(0.3, hub.released.set).start()
    fetch(hub_source(connections=2), tmp_path)
    times = [request.time for request in hub.requests if request.kind == "file"]
    assert times[2] - times[0] >= 1
    assert len(times) == 5
    check(tmp_path, by_name(FILES))


def test_a_pause_of_hours_is_an_error(hub, source, tmp_path):
    hub.pause = 7200
    hub.faults[FAULTY] = iter([503])
    with pytest.raises(VlalignError, match=r"0001\.tar answers 503 and asks to wait for 7200 s; run again after that"):
        fetch(source, tmp_path)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "soon"}, 0),
        ({"RateLimit": '"resolvers";r=0;t=55'}, 55),
        ({"RateLimit": '"resolvers";r=12;t=55', "Retry-After": "3"}, 3),
    ],
)
def test_servers_say_in_their_ways_how_long_to_wait(headers, seconds):
    assert transfer.asked_pause(429, headers) == seconds


def test_servers_may_name_the_time_until_which_to_wait():
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert transfer.asked_pause(503, {"Retry-After": date}) == pytest.approx(100, abs=5)


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
    with pytest.raises(VlalignError, match="wrong bytes 2 times"):
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
        assert parts(Path(folder)) == []
