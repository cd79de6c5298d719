import itertools
import re

import pytest
from fetching import by_name, held, hub_source, shards, url_source
from hub_server import HubServer, blob_sha1

from vlalign.data.shards import fetch as fetching
from vlalign.data.shards.fetch import fetch
from vlalign.errors import VlalignError
from vlalign.hub import RETRIES
from vlalign.records import read_record

FILES = {**shards(4), **shards(2, seed=1, folder="test/"), "README.md": b"# Pictures\n"}
AT = "data.train: dataset repository someone/pictures at main"


def names(directory):
    return [shard["name"] for shard in read_record(directory / "shards.json")["shards"]]


def fails(source, directory, message):
    """Nothing is fetched, and the message says this; it starts with the params key."""
    with pytest.raises(VlalignError, match=message) as caught:
        fetch(source, directory, key="data.train")
    assert str(caught.value).startswith("data.train")
    assert held(directory) == {}


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["train/{0000..0003}.tar"], ["0000.tar", "0001.tar", "0002.tar", "0003.tar"]),
        (["train/{0002,0000}.tar"], ["0002.tar", "0000.tar"]),
        (["train/*.tar"], ["0000.tar", "0001.tar", "0002.tar", "0003.tar"]),
        (["train/000[12].tar"], ["0001.tar", "0002.tar"]),
        (["t*n/{0003..0002}.tar", "train/000?.tar"], ["0003.tar", "0002.tar", "0000.tar", "0001.tar"]),
        (["test/0001.tar"], ["0001.tar"]),
    ],
)
def test_patterns_choose_shards_in_their_order(hub, tmp_path, patterns, chosen):
    hub.commit(FILES)
    fetch(hub_source(*patterns), tmp_path)
    assert names(tmp_path) == chosen
    assert set(held(tmp_path)) == set(chosen)


def test_a_pattern_that_matches_nothing_is_an_error_that_names_what_is_near(hub, tmp_path):
    hub.commit(FILES)
    message = rf"{AT} has no file for 1 of the names in data\.train\.shards, first val/\*\.tar; the nearest.*: \w+/000"
    fails(hub_source("val/*.tar"), tmp_path, message)


def test_a_shard_that_the_repository_lacks_is_an_error(hub, tmp_path):
    hub.commit(FILES)
    message = r"no file for 6 of the names .*, first train/0004\.tar, train/0005\.tar, train/0006\.tar; the nearest"
    fails(hub_source("train/{0000..0009}.tar"), tmp_path, message)


def test_an_empty_repository_is_an_error(hub, tmp_path):
    hub.commit({})
    fails(hub_source(), tmp_path, "none, it is empty")


def test_braces_that_do_not_pair_up_are_an_error(hub, tmp_path):
    hub.commit(FILES)
    fails(
        hub_source("train/{0000..0003.tar"), tmp_path, r"data\.train\.shards: the braces of train/\{0000\.\.0003\.tar"
    )


def test_two_shards_of_one_name_are_an_error(hub, tmp_path):
    hub.commit(FILES)
    message = r"pictures at main: \S+/train/0000\.tar and \S+/test/0000\.tar would both be stored as 0000\.tar"
    fails(hub_source("train/*.tar", "test/*.tar"), tmp_path, message)


@pytest.mark.parametrize("name", ["shards.json", "manifest.json", ".gitattributes"])
def test_names_that_the_folder_needs_itself_are_an_error(hub, tmp_path, name):
    hub.commit({f"data/{name}": b"content"})
    fails(hub_source("data/*"), tmp_path, f"cannot be stored as '{re.escape(name)}'")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://127.0.0.1:1/a/..", "http://127.0.0.1:1/a%00b"])
def test_addresses_without_a_name_are_an_error(hub, tmp_path, address):
    source = url_source(hub, {"a.tar": b"content"})
    (file,) = source.files
    fails(
        source.model_copy(update={"files": (file.model_copy(update={"url": address}),)}), tmp_path, "cannot be stored"
    )


def test_a_revision_is_resolved_once_and_recorded(hub, tmp_path):
    first = hub.commit(FILES, branch="v1.0/a")
    hub.commit(shards(4, seed=2))
    fetch(hub_source(revision="v1.0/a"), tmp_path / "branch")
    fetch(hub_source(revision=first), tmp_path / "commit")
    assert read_record(tmp_path / "branch/shards.json")["source"]["commit"] == first
    assert held(tmp_path / "branch") == held(tmp_path / "commit") == by_name(shards(4))
    assert hub.asked("revision") == {"v1.0/a": 1, first: 1}
    assert set(hub.asked("tree")) == {first}


def test_an_unknown_revision_is_named(hub, tmp_path):
    hub.commit(FILES)
    fails(hub_source(revision="v9"), tmp_path, r"pictures at v9: there is no such branch, tag or commit; correct data")


def test_an_unknown_or_private_repository_is_named(hub, tmp_path):
    source = hub_source().model_copy(update={"repository": "someone/else"})
    login = rf"someone/else at main: the hub does not let you read it \(.* 401\).*{hub.url}/datasets/someone/else, then"
    fails(source, tmp_path, login + " run `hf auth login` or set HF_TOKEN")


@pytest.mark.parametrize("fault", ["gated", 401, 403])
def test_a_gated_repository_says_where_to_accept_its_licence(hub, tmp_path, fault):
    hub.commit(FILES)
    hub.faults = {path: itertools.repeat(fault) for path in FILES}
    licence = rf"{AT}: the hub does not let .*a licence to be accepted: do so at {hub.url}/datasets/someone/pictures"
    fails(hub_source(), tmp_path, licence + ", then run `hf auth login` or set HF_TOKEN")


def test_a_file_that_the_hub_lists_and_lacks_is_named(hub, tmp_path):
    hub.commit(FILES)
    hub.faults["train/0000.tar"] = itertools.repeat(404)
    fails(
        hub_source(connections=1),
        tmp_path,
        rf"{AT}: the hub answers 404 for \S+/train/0000\.tar, which it lists; .*data\.train\.revision",
    )


def test_the_token_goes_to_the_hub_alone(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "no such file"))
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    tokens = {(request.kind, request.token) for request in hub.requests}
    assert tokens == {("revision", "Bearer hf_secret"), ("tree", "Bearer hf_secret"), ("file", "Bearer hf_secret")} | {
        ("stored", None)
    }


def test_a_password_that_git_uses_does_not_replace_the_token(hub, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.commit(FILES)
    fetch(hub_source(), tmp_path / "data")
    assert {request.token for request in hub.requests if request.kind == "file"} == {"Bearer hf_secret"}
    hub.requests.clear()
    fetch(url_source(hub, {"a.tar": b"content"}), tmp_path / "urls")
    assert [request.token.partition(" ")[0] for request in hub.requests] == ["Basic"]


def test_the_endpoint_may_end_with_a_slash(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    hub.commit(FILES)
    fetch(hub_source(), tmp_path)
    assert held(tmp_path) == by_name(shards(4))


@pytest.mark.parametrize("fault", [429, 500, 503])
def test_a_list_survives_faults(hub, tmp_path, fault):
    hub.commit(FILES)
    hub.api_faults = iter([fault] * 5)
    fetch(hub_source(), tmp_path)
    assert held(tmp_path) == by_name(shards(4))


def test_a_hub_that_stays_out_of_order_is_an_error(hub, tmp_path):
    hub.commit(FILES)
    hub.api_faults = itertools.repeat(503)
    fails(
        hub_source(), tmp_path, rf"{AT}: the hub at {hub.url} does not list its files \(.*503.*check the name, the net"
    )


def test_a_hub_that_is_out_of_reach_is_an_error(hub, tmp_path, monkeypatch):
    with HubServer() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    waits = []
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", waits.append)
    for expected in (RETRIES, RETRIES):
        fails(hub_source(), tmp_path, rf"{AT}: the hub at {gone.url} does not list its files .*HF_ENDPOINT")
        assert len(waits) == expected, "the second time does not wait for it to come back"


def test_an_answer_that_is_no_list_is_an_error(hub, tmp_path):
    hub.commit(FILES)
    hub.api_faults = iter(["page"])
    fails(hub_source(), tmp_path, rf"{AT}: the hub at {hub.url} does not list its files .*HF_ENDPOINT")


def test_a_hub_that_is_silent_is_an_error(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LISTING_SECONDS", 0.3)
    hub.commit(FILES)
    hub.api_faults = itertools.chain([None], itertools.repeat("stall"))
    fails(hub_source(), tmp_path, rf"{AT}: its files could not be listed within 0\.3 s")


def test_extras_are_fetched_where_they_exist(hub, tmp_path):
    extras = {"classnames.txt": b"cat\ndog\n", "test/nshards.txt": b"2", "empty.txt": b""}
    hub.commit({**FILES, **extras}, small=extras)
    fetch(
        hub_source("test/*.tar"), tmp_path, extras=["classnames.txt", "templates.txt", "test/nshards.txt", "empty.txt"]
    )
    assert held(tmp_path) == {**by_name(shards(2, seed=1)), **by_name(extras)}
    assert read_record(tmp_path / "shards.json")["extras"] == ["classnames.txt", "nshards.txt", "empty.txt"]


def test_files_that_are_kept_in_git_are_verified(hub, tmp_path):
    files = shards(2)
    hub.commit(files, small=files)
    hub.faults["train/0000.tar"] = iter(["wrong"])
    hub.faults["train/0001.tar"] = itertools.repeat("wrong")
    expected = blob_sha1(files["train/0001.tar"])
    with pytest.raises(
        VlalignError, match=rf"train/0001\.tar brought wrong bytes, their hash is not {expected}, 6 times"
    ):
        fetch(hub_source(connections=1), tmp_path)
    assert held(tmp_path) == {"0000.tar": files["train/0000.tar"]}
