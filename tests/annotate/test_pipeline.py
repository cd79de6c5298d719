import shutil

import pytest

from vlalign.annotate.phrases.stanza_models import load_pipelines
from vlalign.errors import VlalignError
from vlalign.records import read_record, write_record


def test_english_needs_no_tokenizer_and_no_network(model_dir, no_network):
    parser, tokenizer = load_pipelines(model_dir)
    assert tokenizer is None
    assert parser([["a", "dog"]]).sentences[0].words[0].xpos == "DT"


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(VlalignError, match=r"manifest\.json does not exist"):
        load_pipelines(tmp_path)


def test_a_changed_model_is_refused(model_dir, tmp_path):
    copy = tmp_path / "parser"
    shutil.copytree(model_dir, copy)
    model = copy / "en/pos/tiny.pt"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(VlalignError, match=r"pos/tiny\.pt is not the file"):
        load_pipelines(copy)


@pytest.mark.parametrize("packages", [{"constituency": "absent"}, {"pos": "absent"}])
def test_a_folder_that_stanza_cannot_load_is_refused(model_dir, tmp_path, packages):
    copy = tmp_path / "parser"
    shutil.copytree(model_dir, copy)
    manifest = read_record(copy / "manifest.json")
    manifest["packages"] |= packages
    write_record(copy / "manifest.json", manifest)
    with pytest.raises(VlalignError, match="cannot be loaded"):
        load_pipelines(copy)
