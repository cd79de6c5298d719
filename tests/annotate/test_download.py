import functools
import hashlib
import http.server
import json
import threading

import pytest
import requests

from vlalign.annotate.phrases.download import download_parser
from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.errors import VlalignError
from vlalign.records import read_record

pytestmark = pytest.mark.slow


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and notes what was asked for."""

    def log_message(self, *arguments):
        self.server.asked.append(self.path)


def offer(site, language, models, packages):
    """Copy `models` to the site under the names of `packages`, and describe them as Stanza's list does."""
    entries = {}
    for processor, package in packages.items():
        content = (models / processor / "tiny.pt").read_bytes()
        (site / language / processor).mkdir(parents=True)
        (site / language / processor / f"{package}.pt").write_bytes(content)
        needs = [{"model": "pretrain", "package": "tiny"}] if processor in ("pos", "constituency") else []
        entries[processor] = {package: {"md5": hashlib.md5(content).hexdigest(), "dependencies": needs}}
    default = {processor: package for processor, package in packages.items() if processor != "pretrain"}
    return {**entries, "packages": {"default": default}, "lang_name": language}


@pytest.fixture
def mirror(model_dir, tmp_path, monkeypatch, request):
    """A server that offers the tiny models under the names of Stanza's own, with processors that nobody asked for."""
    monkeypatch.setenv("NO_PROXY", "*")
    site = tmp_path / "site"
    names = {"pos": "combined_charlm", "constituency": "ptb3-revised_charlm", "pretrain": "tiny"}
    english = offer(site, "en", model_dir / "en", names)
    english["packages"]["default"] |= {"tokenize": "combined", "mwt": "combined"}
    english["packages"]["bare"] = {"tokenize": "combined", "pos": names["pos"]}
    resources = {"en": {**english, "tokenize": {"combined": {}}, "mwt": {"combined": {}}}}
    if "german_dir" in request.fixturenames:
        models = request.getfixturevalue("german_dir") / "de"
        words = {"tokenize": "gsdsimp", "pos": "gsdsimp_charlm", "constituency": "ctb-51_charlm", "pretrain": "tiny"}
        resources |= {"de": offer(site, "de", models, {**words, "mwt": "gsdsimp"}), "zh": {"alias": "zh-hans"}}
        resources["zh-hans"] = offer(site, "zh-hans", models, words)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site))
    server.asked = []
    url = f"http://127.0.0.1:{server.server_address[1]}"
    resources["url"] = f"{url}/{{lang}}/{{filename}}"
    from stanza.resources.common import DEFAULT_RESOURCES_VERSION

    (site / f"resources_{DEFAULT_RESOURCES_VERSION}.json").write_text(json.dumps(resources))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield url, server.asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_downloaded_folder_is_used_like_a_trained_one(mirror, model_dir, tmp_path):
    url, asked = mirror
    download_parser(tmp_path / "parser", resources_url=url)
    manifest = read_record(tmp_path / "parser/manifest.json")
    assert manifest["source"] == "download"
    assert manifest["packages"] == {"pos": "combined_charlm", "constituency": "ptb3-revised_charlm"}
    assert len(manifest["files"]) == 3
    assert not any("tokenize" in path or "mwt" in path for path in asked)
    captions = ["a red dog", "two cats above a green tree"]
    assert CaptionParser(tmp_path / "parser").parse(captions) == CaptionParser(model_dir).parse(captions)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "name", "processors"),
    [
        ("de", "de", ["constituency", "mwt", "pos", "pretrain", "tokenize"]),
        ("zh", "zh-hans", ["constituency", "pos", "pretrain", "tokenize"]),
    ],
)
def test_other_languages_come_with_their_tokenizer(german_dir, mirror, tmp_path, language, name, processors):
    url, asked = mirror
    download_parser(tmp_path / "parser", language=language, resources_url=url)
    manifest = read_record(tmp_path / "parser/manifest.json")
    assert manifest["language"] == name
    assert sorted(manifest["packages"]) == [processor for processor in processors if processor != "pretrain"]
    assert sorted(path.split("/")[2] for path in asked if path.startswith(f"/{name}/")) == processors
    (chinese,) = CaptionParser(tmp_path / "parser").parse(["一只红色的狗"])
    assert [word.text for word in chinese.words] == ["一", "只", "红色", "的", "狗"]
    if language == "de":
        captions = ["ein roter hund zum baum", "ein blauer fisch"]
        assert CaptionParser(tmp_path / "parser").parse(captions) == CaptionParser(german_dir).parse(captions)


def test_files_that_are_there_are_not_fetched_again(mirror, tmp_path):
    url, asked = mirror
    download_parser(tmp_path / "parser", resources_url=url)
    (tmp_path / "parser/en/pos/combined_charlm.pt").unlink()
    asked.clear()
    download_parser(tmp_path / "parser", resources_url=url)
    assert [path for path in asked if path.endswith(".pt")] == ["/en/pos/combined_charlm.pt"]


def test_an_unknown_language_or_package_names_the_key(mirror, tmp_path):
    url, _ = mirror
    with pytest.raises(VlalignError, match=r"annotate\.parser\.language tlh"):
        download_parser(tmp_path / "parser", language="tlh", resources_url=url)
    with pytest.raises(VlalignError, match=r"annotate\.parser\.package bare .*no constituency model"):
        download_parser(tmp_path / "parser", package="bare", resources_url=url)
    assert not (tmp_path / "parser/manifest.json").exists()


def test_no_network_names_the_key_and_the_remedy(tmp_path, no_network):
    with pytest.raises(VlalignError, match=r"cannot be downloaded .* set annotate\.parser\.source to train"):
        download_parser(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_server_that_fails_is_reported_alike(mirror, tmp_path, monkeypatch):
    url, _ = mirror

    def fail(*arguments, **options):
        raise requests.Timeout("timed out")

    monkeypatch.setattr("requests.get", fail)
    with pytest.raises(VlalignError, match="timed out"):
        download_parser(tmp_path, resources_url=url)
