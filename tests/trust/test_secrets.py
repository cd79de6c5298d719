"""Logins, signatures and tokens are planted wherever one can stand; nothing that is written or said has them."""

import json
import logging
import subprocess
import sys

import pytest
import yaml
from annotated_scenes import PARAMS, write_pairs
from fetching import hub_source, url_source
from hub_server import HubServer, sha256
from repository import PROJECT as ROOT
from repository import new_repository

from vlalign.data.scenes.dataset import split_samples
from vlalign.data.shards.fetch import fetch
from vlalign.data.sources.urls import UrlFile, UrlSource
from vlalign.errors import VlalignError
from vlalign.params import parse
from vlalign.redact import Redaction, address, redacted

LOGIN, SIGNATURE, TOKEN = "hunter2secret", "s1gn4tur3", "hf_planted_token_0123456789"
PLANTED = (LOGIN, SIGNATURE, TOKEN)


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def hub():
    with HubServer() as server:
        yield server


def with_secrets(url):
    return url.replace("://", f"://me:{LOGIN}@") + f"?sig={SIGNATURE}&x=1"


def planted(hub, files, **options):
    """A source whose addresses have a login and a signature."""
    source = url_source(hub, files, **options)
    return UrlSource(source="urls", files=[UrlFile(url=with_secrets(f.url), sha256=f.sha256) for f in source.files])


def told(folder):
    """All bytes of all files below a folder, and their names."""
    return b"".join(str(path).encode() + (path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*"))


def assert_silent(content):
    found = [secret for secret in PLANTED if secret.encode() in content]
    assert found == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://me:{LOGIN}@host/a.tar?sig={SIGNATURE}#x", "https://host/a.tar?***"),
        (f"url: /a/b.tar?sig={SIGNATURE} (refused)", "url: /a/b.tar?*** (refused)"),
        (f"Bearer {TOKEN}!", "Bearer ***!"),
        ("is it a dog? yes=1, a=b?", "is it a dog? yes=1, a=b?"),
        ("https://host:80/a b@c.tar", "https://host:80/a b@c.tar"),
    ],
)
def test_messages_are_redacted(text, expected):
    assert redacted(text) == expected
    assert str(VlalignError(text)) == expected
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (text,), None)
    assert Redaction().filter(record)
    assert record.getMessage() == expected


def test_addresses_lose_login_query_and_fragment():
    assert address(f"https://me:{LOGIN}@host:81/a%20b.tar?sig={SIGNATURE}#x") == "https://host:81/a%20b.tar"
    assert address("file:///a/b.tar") == "file:///a/b.tar"


def test_records_of_addresses_hold_no_secrets(hub, tmp_path):
    source = planted(hub, {"a.tar": b"first", "b.tar": b"second"})
    fetch(source, tmp_path)
    assert (tmp_path / "b.tar").read_bytes() == b"second"
    assert f"{hub.url}/files/a.tar".encode() in told(tmp_path)
    assert_silent(told(tmp_path))
    fetch(source, tmp_path)
    assert hub.asked()["a.tar"] == 1, "what is recorded vouches for what is there"


@pytest.mark.parametrize("fault", [404, 403, "wrong"])
def test_errors_of_addresses_hold_no_secrets(hub, tmp_path, fault, caplog):
    source = planted(hub, {"a.tar": b"first"})
    if fault == "wrong":
        hub.files["a.tar"] = b"other"
    else:
        hub.faults["a.tar"] = iter([fault] * 9)
    with pytest.raises(VlalignError, match=r"/files/a\.tar") as error:
        fetch(source, tmp_path)
    assert_silent(str(error.value).encode() + caplog.text.encode() + told(tmp_path))


def test_an_address_that_does_not_answer_is_told_without_secrets(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("vlalign.data.shards.fetch.ATTEMPTS", 2)
    monkeypatch.setattr("vlalign.data.shards.fetch.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    source = UrlSource(source="urls", files=[UrlFile(url=with_secrets("http://127.0.0.1:9/a.tar"), sha256="0" * 64)])
    with pytest.raises(VlalignError) as error:
        fetch(source, tmp_path)
    assert "127.0.0.1:9/a.tar" in str(error.value)
    assert_silent(str(error.value).encode() + caplog.text.encode() + told(tmp_path))


def test_an_endpoint_of_the_hub_is_told_without_its_login(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:{LOGIN}@127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(VlalignError, match=r"the hub at http://127\.0\.0\.1:9") as error:
        hub_source("a.tar").remote_files((), key="datasets.x.train")
    assert_silent(str(error.value).encode())


@pytest.mark.parametrize(
    "url", [f"ftp://me:{LOGIN}@host/a?sig={SIGNATURE}", f"https://me:{LOGIN}@host/a?sig={SIGNATURE}"]
)
def test_mistakes_in_params_are_told_without_secrets(url):
    train = {"source": "urls", "files": [{"url": url, "sha256": "short"}]}
    with pytest.raises(VlalignError, match="sha256") as error:
        parse({"datasets": {"x": {"train": train, "validation": train, "test": train}}})
    assert_silent(str(error.value).encode())


def test_the_command_reads_secrets_and_does_not_tell_them(hub, tmp_path):
    source = planted(hub, {"a.tar": b"first"})
    mine = {"mine": dict.fromkeys(("train", "validation", "test"), source.model_dump(mode="json"))}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"dataset": "mine", "datasets": mine}))
    files = ("--params", str(ROOT / "params.yaml"), "--params", str(overlay))
    options = (*files, "--split", "train", "--output", str(tmp_path / "out"))
    command = [sys.executable, "-m", "vlalign", "shards", *options]
    hub.faults["a.tar"] = iter([503])
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/a.tar").read_bytes() == b"first"
    assert_silent(result.stdout + result.stderr + told(tmp_path / "out"))


@pytest.mark.slow
def test_nothing_that_the_workflow_writes_or_says_holds_secrets(hub, tmp_path):
    repository, sources = new_repository(tmp_path / "project"), {}
    for name in ("train", "validation", "test"):
        write_pairs(tmp_path / name, split_samples(name, 5, PARAMS))
        content = (tmp_path / name / "000000.tar").read_bytes()
        hub.files[f"{name}.tar"] = content
        url = with_secrets(f"{hub.url}/files/{name}.tar")
        sources[name] = {"source": "urls", "files": [{"url": url, "sha256": sha256(content)}]}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"root": "mine", "dataset": "mine", "datasets": {"mine": sources}}))
    targets = [f"data/mine/{name}/manifest.json" for name in sources]
    command = [
        "snakemake",
        "--cores",
        "1",
        "--verbose",
        "--printshellcmds",
        "--configfile",
        str(overlay),
        "--",
        *targets,
    ]
    printed = repository.run(*command)
    assert "vlalign shards" in printed
    assert_silent(printed.encode())
    assert_silent(told(repository.root / "mine") + told(repository.root / ".snakemake"))
    hub.files["test.tar"] = b"damaged"
    for path in (repository.root / "mine/data/mine/test").glob("*"):
        if path.is_file():
            path.unlink()
    failed = repository.attempt(*command)
    assert failed.returncode != 0
    assert "wrong bytes" in failed.stdout
    assert_silent(failed.stdout.encode() + told(repository.root / "mine") + told(repository.root / ".snakemake"))
