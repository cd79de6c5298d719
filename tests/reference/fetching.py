"""What the tests of downloads share: some shards, where the hub is, and what is in a folder afterwards."""

import contextlib
import random
import time
from types import SimpleNamespace
from urllib.parse import quote

from hub_server import REPOSITORY, HubServer, sha256

from vlalign.data.shards import fetch
from vlalign.data.sources.hub import HubSource
from vlalign.data.sources.urls import UrlFile, UrlSource


@contextlib.contextmanager
def empty_hub(monkeypatch, cache):
    """A hub on this machine, and a cache that is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    with HubServer() as server:
        point_at(server, monkeypatch)
        yield server


def point_at(server, monkeypatch):
    """Let this server be the hub, and attempts follow each other at once."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(fetch, "FIRST_PAUSE", 0.0005)
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(
            f"huggingface_hub.{module}.time", SimpleNamespace(sleep=lambda seconds: None, time=time.time)
        )


def shards(count, *, seed=0, size=100_000, folder="train/"):
    """Path in the repository -> content."""
    return {f"{folder}{index:04d}.tar": random.Random(f"{seed} {index}").randbytes(size) for index in range(count)}


def by_name(files):
    """The same under their base names."""
    return {path.rpartition("/")[2]: content for path, content in files.items()}


def hub_source(*patterns, **options):
    return HubSource(source="hub", repository=REPOSITORY, shards=patterns or ("train/*.tar",), **options)


def url_source(server, files, **options):
    """Put files at plain addresses of the server."""
    server.files |= files
    addresses = {f"{server.url}/files/{quote(path)}": content for path, content in files.items()}
    entries = tuple(UrlFile(url=url, sha256=sha256(content)) for url, content in addresses.items())
    return UrlSource(source="urls", files=entries, **options)


def held(directory):
    """Name -> content of all that has its final name."""
    visible = (path for path in directory.iterdir() if not path.name.startswith(".") and path.name != "shards.json")
    return {path.name: path.read_bytes() for path in visible}
