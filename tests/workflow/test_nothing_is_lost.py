"""What is finished stays, whatever happens to code, caches and files; what is damaged is found and mended."""

import shutil

import pytest
from repository import jobs
from test_two_front_doors import digest

pytestmark = pytest.mark.slow
RUN = "results/runs/powerclip/seed-0"


def broken(repository, module):
    """Code that stops in its first line."""
    path = repository.root / "src/vlalign" / module
    before = path.read_text()
    path.write_text(before + "\nraise SystemExit('a mistake in an edit')\n")
    return path, before


def test_an_edit_that_fails_loses_nothing(finished_copy):
    repository = finished_copy
    weights = digest(repository.root / RUN / "model.safetensors")
    page = (repository.root / "results/report.html").read_bytes()
    path, before = broken(repository, "training/history.py")
    assert repository.attempt("snakemake", "--cores", "2", "--keep-going", "all").returncode != 0
    assert not (repository.root / RUN / "model.safetensors").exists(), "Snakemake has removed what is stale"
    kept = repository.root / "checkpoints/previous"
    [slot] = (kept / "runs/powerclip/seed-0").glob("*/model.safetensors")
    assert digest(slot) == weights
    assert (kept / "report.html").read_bytes() == page
    # Another target that ends well does not take away what has no successor yet.
    repository.run("snakemake", "--cores", "2", "--force", "data/parser/manifest.json")
    assert digest(slot) == weights
    # A second failure must not put what is half there into its place.
    assert repository.attempt("snakemake", "--cores", "2", f"{RUN}/model.safetensors").returncode != 0
    assert digest(slot) == weights

    path.write_text(before)
    printed = repository.run("snakemake", "--cores", "2", "all")
    assert "pretrain run=powerclip, seed=0" in jobs(printed)
    for name in ("clip", "powerclip"):
        assert "is complete" in (repository.root / f"logs/pretrain/{name}/seed-0.log").read_text()
    assert digest(repository.root / RUN / "model.safetensors") == weights
    assert not kept.exists(), "its successors are complete"
    assert repository.plan() == set()
    assert "0 files to mend" in repository.run("vlalign", "check")


def test_an_edit_of_what_is_measured_keeps_metrics(finished_copy):
    repository = finished_copy
    path, before = broken(repository, "evaluation/retrieval.py")
    metrics = f"{RUN}/metrics/retrieval.json"
    assert repository.attempt("snakemake", "--cores", "2", metrics).returncode != 0
    path.write_text(before)
    assert not (repository.root / metrics).exists()
    repository.run("snakemake", "--cores", "2", "all")
    log = (repository.root / "logs/evaluate/powerclip/seed-0.log").read_text()
    assert "measuring" not in log, "taken back, not measured again"
    assert repository.plan() == set()


DAMAGED = {
    "data/scenes/train/000000.tar": "data/scenes/train",
    "data/scenes/validation/index/000000.arrow": "data/scenes/validation",
    "data/annotations/scenes/phrases/train/000000.arrow": "phrases",
    "data/annotations/scenes/regions/train/000000.arrow": "regions",
    "data/parser/en/pos/tiny.pt": "parser",
    "data/scenes/zeroshot/classnames.txt": "zeroshot",
    f"{RUN}/model.safetensors": "runs/powerclip",
    "results/runs/clip/seed-0/metrics/retrieval.json": "runs/clip",
    "results/figures/similarity.svg": "figures",
    "results/precision.csv": "precision",
    "metrics.json": "metrics.json",
}


def test_what_is_damaged_is_found_and_mended_as_told(finished_copy):
    repository = finished_copy
    weights = digest(repository.root / RUN / "model.safetensors")
    for name in DAMAGED:
        path = repository.root / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    told = repository.attempt("vlalign", "check")
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    for name in DAMAGED:
        assert any(line.startswith(f"damaged\t{name} ") for line in lines), told.stdout
    for line in lines:
        if line.startswith("\tto mend: rm"):
            repository.run("bash", "-c", line.removeprefix("\tto mend: ").split(", then ")[0])
    repository.run("snakemake", "--cores", "2", "all")
    assert "0 files to mend" in repository.run("vlalign", "check")
    assert digest(repository.root / RUN / "model.safetensors") == weights


def test_a_checkout_from_a_damaged_cache_is_mended(recorded_copy):
    repository = recorded_copy
    weights = digest(repository.root / RUN / "model.safetensors")
    repository.run("dvc", "config", "--local", "cache.type", "symlink")
    repository.run("dvc", "checkout", "--relink")
    link = repository.root / RUN / "model.safetensors"
    target = link.resolve()
    assert link.is_symlink()
    target.chmod(0o644)
    target.write_bytes(b"damaged")
    repository.attempt("dvc", "checkout")
    target.unlink(missing_ok=True)
    repository.attempt("dvc", "checkout")
    assert repository.attempt("vlalign", "check").returncode == 1
    printed = repository.run("snakemake", "--cores", "2", "all")
    assert "links to files that are gone" in printed or link.exists()
    assert digest(link) == weights
    assert "0 files to mend" in repository.run("vlalign", "check")


def test_class_lists_and_cards_are_part_of_the_dag(finished_copy):
    root = finished_copy.root
    card = root / RUN / "README.md"
    card.unlink()
    assert "evaluate run=powerclip, seed=0" in finished_copy.plan()
    shutil.copy(root / "README.md", card)
    finished_copy.run("snakemake", "--touch", "all")
    (root / "data/scenes/zeroshot/classnames.txt").write_text("x\n")
    assert "evaluate run=powerclip, seed=0" in finished_copy.plan()
    (root / "data/scenes/zeroshot/classnames.txt").unlink()
    assert "dataset" in finished_copy.plan()
