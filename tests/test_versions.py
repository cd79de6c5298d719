from pathlib import Path

import pytest
import yaml

from vlalign import params as parameters
from vlalign.errors import VlalignError
from vlalign.versions import check_versioned, dependencies, own_files

ROOT = Path(__file__).parents[1]


def params_of(*tables: str) -> parameters.Params:
    config = yaml.safe_load((ROOT / "params.yaml").read_text())
    splits = dict(zip(("train", "validation", "test"), tables, strict=False))
    sources = {split: {"source": "table", "table": table} for split, table in splits.items()}
    return parameters.parse({**config, "dataset": "mine", "datasets": {"mine": sources}})


def stages(folder: Path, *deps: str | dict) -> Path:
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"workflow": {"cmd": "x", "deps": list(deps)}}}))
    return folder / "dvc.yaml"


def test_tables_and_annotations_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert own_files(parameters.load("params.yaml")) == []
    assert own_files(params_of("own/a.csv", "own/b.csv", "./own/a.csv")) == ["own/a.csv", "own/b.csv"]


def test_what_dvc_is_not_told_of_is_named_with_the_line_to_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    params = params_of("own/a.csv", "own/b.csv", "other/c.csv")
    with pytest.raises(VlalignError, match=r"(?s)dvc\.yaml does not name.*\n      - own/b\.csv\n      - other/c\.csv$"):
        check_versioned(params, stages(tmp_path, "src", {"own/a.csv": {"hash": "md5"}}))
    check_versioned(params, stages(tmp_path, "./own/", "other/c.csv"))


@pytest.mark.parametrize("content", ["[]", "stages: {}", "{", "stages: {workflow: 3}", "stages: {workflow: {deps: 3}}"])
def test_another_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "dvc.yaml").write_text(content)
    with pytest.raises(VlalignError, match="has no stage `workflow`"):
        dependencies(tmp_path / "dvc.yaml")


def test_the_project_s_own_file_is_read() -> None:
    assert "src/vlalign" in dependencies(ROOT / "dvc.yaml")
