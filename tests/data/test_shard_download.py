import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple

import pytest
from fetching import by_name, held, hub_source, shards, url_source
from hub_server import REPOSITORY, sha256

from vlalign.data.shards.fetch import INCOMING, fetch
from vlalign.errors import VlalignError
from vlalign.records import read_record

FILES = shards(4)
# A shell that starts tests in the background lets them, and all that they start, ignore Ctrl-C.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from vlalign.data.shards.fetch import fetch
from pydantic import TypeAdapter
from vlalign.params import AnySource
fetch(TypeAdapter(AnySource).validate_json(sys.argv[1]), sys.argv[2])
"""


def start(source, directory, **environment):
    """A process that fetches."""
    command = [sys.executable, "-c", SCRIPT, source.model_dump_json(), str(directory)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_shards_of_the_hub_are_recorded(hub, tmp_path):
    commit = hub.commit(FILES, small=["train/0001.tar"])
    fetch(hub_source("train/{0000..0003}.tar"), tmp_path / "new" / "folder")
    assert held(tmp_path / "new" / "folder") == by_name(FILES)
    assert read_record(tmp_path / "new" / "folder" / "shards.json") == {
        "shards": [
            {"name": name, "bytes": len(content), "sha256": sha256(content)} for name, content in by_name(FILES).items()
        ],
        "source": {
            "source": "hub",
            "repository": REPOSITORY,
            "shards": ["train/{0000..0003}.tar"],
            "revision": "main",
            "commit": commit,
        },
        "extras": [],
    }
    assert not (tmp_path / "new" / "folder" / INCOMING).exists()


def test_shards_of_plain_addresses_are_recorded(hub, tmp_path):
    files = {"b c.tar": b"second", "a.tar": b"first", "empty.tar": b""}
    fetch(url_source(hub, files), tmp_path, extras=["classnames.txt"])
    assert held(tmp_path) == files
    record = read_record(tmp_path / "shards.json")
    assert {shard["name"]: shard["bytes"] for shard in record["shards"]} == {"b c.tar": 6, "a.tar": 5, "empty.tar": 0}
    assert [shard["name"] for shard in record["shards"]] == list(files)
    assert record["source"]["files"][1] == {"url": f"{hub.url}/files/a.tar", "sha256": sha256(b"first")}
    assert record["extras"] == []


@pytest.mark.parametrize("kind", ["hub", "urls"])
def test_a_file_of_another_size_is_fetched_again(hub, tmp_path, kind):
    hub.commit(FILES)
    source = hub_source() if kind == "hub" else url_source(hub, FILES)
    fetch(source, tmp_path)
    os.truncate(tmp_path / "0001.tar", 10)
    (tmp_path / "0002.tar").unlink()
    hub.requests.clear()
    fetch(source, tmp_path)
    assert hub.asked() == {"train/0001.tar": 1, "train/0002.tar": 1}
    assert held(tmp_path) == by_name(FILES)


def test_files_from_elsewhere_are_kept_if_they_are_right(hub, tmp_path):
    hub.commit(FILES)
    for name, content in by_name(FILES).items():
        (tmp_path / name).write_bytes(content if name != "0003.tar" else content[::-1])
    fetch(hub_source(), tmp_path)
    assert hub.asked() == {"train/0003.tar": 1}
    assert held(tmp_path) == by_name(FILES)


def test_as_many_files_are_fetched_at_once_as_there_are_connections(hub, tmp_path):
    hub.commit(FILES)
    hub.faults = {path: iter(["stall"]) for path in FILES}
    thread = threading.Thread(target=fetch, args=(hub_source(connections=3), tmp_path))
    thread.start()
    wait_for(lambda: hub.asked("stored").total() == 3)
    time.sleep(0.1)
    assert hub.asked().total() == 3
    hub.released.set()
    thread.join()
    assert held(tmp_path) == by_name(FILES)


def test_two_processes_do_not_fetch_into_one_folder(hub, tmp_path):
    hub.commit(FILES)
    hub.faults["train/0000.tar"] = iter(["stall"])
    process = start(hub_source(connections=1), tmp_path)
    wait_for(hub.stalled.is_set)
    with pytest.raises(VlalignError, match=f"another process is fetching into {tmp_path}; wait"):
        fetch(hub_source(), tmp_path)
    hub.released.set()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert held(tmp_path) == by_name(FILES)


def test_a_disk_without_room_is_an_error_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    hub.commit(FILES)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(399_999))
    with pytest.raises(VlalignError, match=r"needs 0\.0 GB more for 4 files and its disk has 0\.0 GB free; make room"):
        fetch(hub_source(), tmp_path)
    assert hub.asked() == {}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(400_000))
    fetch(hub_source(), tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(hub, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(VlalignError, match="is no folder"):
        fetch(hub_source(), tmp_path / "file" / "data")
    assert hub.requests == []


@pytest.mark.parametrize("kind", ["hub", "urls"])
def test_what_is_there_is_not_fetched_again(hub, tmp_path, kind):
    hub.commit(FILES)
    source = hub_source() if kind == "hub" else url_source(hub, FILES)
    fetch(source, tmp_path)
    record, before = (tmp_path / "shards.json").read_bytes(), {path: path.stat() for path in tmp_path.glob("*.tar")}
    (tmp_path / "shards.json").unlink()
    hub.requests.clear()
    fetch(source.model_copy(update={"connections": 1}), tmp_path)
    assert hub.asked() == {}
    assert (tmp_path / "shards.json").read_bytes() == record
    assert {path: path.stat().st_mtime_ns for path in before} == {path: it.st_mtime_ns for path, it in before.items()}


def test_only_files_that_differ_in_another_commit_are_fetched(hub, tmp_path):
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    # Of the same size: shards often are, since tar files are padded.
    changed = FILES | {"train/0002.tar": shards(3, seed=1)["train/0002.tar"]}
    commit = hub.commit(changed)
    hub.requests.clear()
    fetch(hub_source(), tmp_path)
    assert hub.asked() == {"train/0002.tar": 1}
    assert held(tmp_path) == by_name(changed)
    record = read_record(tmp_path / "shards.json")
    assert record["source"]["commit"] == commit
    assert record["shards"][2]["sha256"] == sha256(changed["train/0002.tar"])


def test_a_failed_run_leaves_no_record_and_no_file_of_another_commit(hub, tmp_path):
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    changed = shards(4, seed=1)
    hub.commit(changed)
    hub.faults["train/0001.tar"] = itertools.repeat(404)
    with pytest.raises(VlalignError, match="404"):
        fetch(hub_source(connections=1), tmp_path)
    assert held(tmp_path).items() <= by_name(changed).items()
    assert not (tmp_path / "shards.json").exists()


@pytest.mark.parametrize("kind", ["hub", "urls"])
def test_a_killed_run_goes_on_with_the_files_that_it_had_not(hub, tmp_path, kind):
    hub.commit(FILES)
    source = hub_source(connections=1) if kind == "hub" else url_source(hub, FILES, connections=1)
    hub.faults["train/0002.tar"] = iter(["stall"])
    process = start(source, tmp_path)
    wait_for(hub.stalled.is_set)
    process.kill()
    process.communicate()
    hub.requests.clear()
    fetch(source, tmp_path)
    assert set(hub.asked("file")) >= {"train/0002.tar", "train/0003.tar"}
    assert hub.asked("stored").total() == (2 if kind == "hub" else 0)
    assert held(tmp_path) == by_name(FILES)


def test_a_full_disk_is_an_error(hub, tmp_path):
    (tmp_path / INCOMING).mkdir()
    source = url_source(hub, {"a.tar": b"x" * 100_000})
    (tmp_path / INCOMING / source.files[0].sha256).mkdir()
    (tmp_path / INCOMING / source.files[0].sha256 / "a.tar").symlink_to("/dev/full")
    with pytest.raises(VlalignError, match=r"\(.*No space left on device\); make room or"):
        fetch(source, tmp_path)
    assert held(tmp_path) == {}


def test_offline_what_is_there_suffices(hub, tmp_path, monkeypatch):
    hub.commit({**FILES, "classnames.txt": b"cat"}, small=["classnames.txt"])
    fetch(hub_source(), tmp_path, extras=["classnames.txt"])
    record = (tmp_path / "shards.json").read_bytes()
    (tmp_path / "shards.json").unlink()
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fetch(hub_source(), tmp_path, extras=["classnames.txt"])
    assert hub.requests == []
    assert (tmp_path / "shards.json").read_bytes() == record


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 5)])
def test_offline_what_is_missing_is_named(hub, tmp_path, monkeypatch, damage):
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    damage(tmp_path / "0003.tar")
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        VlalignError, match=r"HF_HUB_OFFLINE is set and .*\(1 files are missing, first 0003\.tar\); unset"
    ):
        fetch(hub_source(), tmp_path)
    assert hub.requests == []


@pytest.mark.parametrize("other", [hub_source("train/{0000..0002}.tar"), hub_source(revision="v2")])
def test_offline_another_request_is_an_error(hub, tmp_path, monkeypatch, other):
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(VlalignError, match="nothing of it was fetched there"):
        fetch(other, tmp_path)
    assert held(tmp_path) == by_name(FILES)


def test_offline_is_set_by_the_environment(hub, tmp_path):
    hub.commit(FILES)
    process = start(hub_source(), tmp_path, HF_HUB_OFFLINE="1")
    _, errors = process.communicate(timeout=60)
    assert "VlalignError: source: dataset repository someone/pictures at main: HF_HUB_OFFLINE is set" in errors
    assert hub.requests == []


def test_nothing_vouches_for_files_of_another_commit_after_a_failure(hub, tmp_path):
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    changed = shards(4, seed=1)
    hub.commit(changed)
    hub.faults["train/0001.tar"] = itertools.repeat(404)
    with pytest.raises(VlalignError, match="404"):
        fetch(hub_source(connections=1), tmp_path)
    assert held(tmp_path) == {"0000.tar": changed["train/0000.tar"]}
    assert not (tmp_path / "shards.json").exists()


def test_a_partial_file_is_not_continued_with_another_version(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    hub.commit(FILES)
    hub.faults["train/0001.tar"] = iter(["truncated", 404])
    with pytest.raises(VlalignError, match="404"):
        fetch(hub_source(connections=1), tmp_path)
    assert (tmp_path / INCOMING / sha256(FILES["train/0001.tar"]) / "0001.tar").stat().st_size == 50_000
    changed = shards(4, seed=1)
    hub.commit(changed)
    hub.requests.clear()
    fetch(hub_source(), tmp_path)
    assert hub.ranges("train/0001.tar") == [None]
    assert held(tmp_path) == by_name(changed)
    assert not (tmp_path / INCOMING).exists()


@pytest.mark.parametrize("silent", ["files", "list"])
def test_ctrl_c_does_not_wait_for_a_server(hub, tmp_path, silent):
    hub.commit(FILES)
    if silent == "files":
        hub.faults = {path: iter(["stall"]) for path in FILES}
    else:
        hub.api_faults = iter(["stall"])
    process = start(hub_source(), tmp_path)
    wait_for(hub.stalled.is_set)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert held(tmp_path) == {}


def test_nothing_is_written_after_an_error(hub, tmp_path):
    def refuse_when_others_wait():
        wait_for(lambda: hub.asked().total() == 4)
        threading.Timer(0.3, hub.released.set).start()
        yield 404

    hub.commit(FILES)
    hub.faults = {path: iter(["stall"]) for path in FILES} | {"train/0000.tar": refuse_when_others_wait()}
    with pytest.raises(VlalignError, match="404"):
        fetch(hub_source(), tmp_path)
    assert hub.released.is_set()
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    time.sleep(0.1)
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
    assert held(tmp_path) == {}
