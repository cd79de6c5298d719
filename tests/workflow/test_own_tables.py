"""Under DVC a dataset of one's own: a row that changes in its table is noticed, and what depends on it made again."""

import pytest
from repository import jobs, new_repository

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]

MINE = {
    "dataset": "photographs",
    "datasets": {
        "photographs": {
            "train": {"source": "table", "table": "photographs/captions.csv"},
            "hold_out": {"validation": 0.2, "test": 0.3},
        }
    },
    "runs": {"arms": ["powerclip"], "ablations": []},
    "train": {"steps": 2, "batch_size": 8},
}


def test_a_row_that_goes_from_a_table_is_noticed(tmp_path):
    repository = new_repository(tmp_path / "project")
    repository.run("python", "examples/photographs.py", "photographs")
    repository.set_params(MINE)
    repository.commit("My photographs")
    refused = repository.attempt("dvc", "repro")
    assert refused.returncode != 0
    assert "add below `deps` of the stage `workflow`:\n      - photographs/captions.csv\n" in refused.stdout
    assert not (repository.root / "data").exists()

    stages = repository.root / "dvc.yaml"
    stages.write_text(stages.read_text().replace("    deps:\n", "    deps:\n      - photographs/captions.csv\n"))
    repository.run("dvc", "repro")
    repository.commit("Record results")
    clean = "Data and pipelines are up to date."
    assert clean in repository.run("dvc", "status")

    table = repository.root / "photographs" / "captions.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert "photographs/captions.csv" in repository.run("dvc", "status")
    assert any(job.startswith("pack ") for job in jobs(repository.run("dvc", "repro")))
    assert clean in repository.run("dvc", "status")

    repository.commit("Record results")
    repository.run("vlalign", "experiments")  # in a checkout, in which Git has no table
    assert "powerclip" in repository.run("dvc", "exp", "list")
    assert repository.changes() == []
