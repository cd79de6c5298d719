import pytest
import torch

from vlalign.params import RuntimeParams
from vlalign.training.checkpoint import Checkpoints, differences
from vlalign.training.processes import Processes

IDENTITY = {"params": {"a": 1}, "seed": 0}


def checkpoints(folder, **policy):
    return Checkpoints(folder, identity=IDENTITY, policy=RuntimeParams(**policy))


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt"))


def save(kept, *steps, **options):
    for step in steps:
        kept.save({"step": step, "weights": torch.full((3,), float(step))}, **options)


def test_the_last_ones_are_kept(tmp_path):
    save(checkpoints(tmp_path, keep_last=2), 100, 200, 300)
    assert names(tmp_path) == ["step-00000200.pt", "step-00000300.pt"]


def test_the_newest_is_loaded(tmp_path):
    kept = checkpoints(tmp_path, keep_last=3)
    save(kept, 100, 1000, 200)
    (tmp_path / "step-00001000.pt").unlink(missing_ok=True)
    assert kept.load()["weights"].tolist() == [200.0] * 3


def test_every_so_many_and_the_best_stay_when_the_run_is_complete(tmp_path):
    kept = checkpoints(tmp_path, keep_last=1, keep_every=200, keep_best=True)
    save(kept, 100)
    save(kept, 200, best=True)
    save(kept, 300, 400)
    kept.clear()
    stayed = {path.name for path in kept.kept.iterdir()}
    assert stayed == {"step-00000200.pt", "step-00000400.pt", "best.pt"}
    assert kept.load() is None
    assert torch.load(kept.kept / "best.pt", weights_only=True)["step"] == 200


def test_the_best_is_replaced(tmp_path):
    kept = checkpoints(tmp_path, keep_best=True)
    save(kept, 100, 200, best=True)
    assert torch.load(kept.kept / "best.pt", weights_only=True)["step"] == 200


def test_runs_with_other_params_keep_theirs_apart(tmp_path):
    other = Checkpoints(tmp_path, identity={**IDENTITY, "seed": 1}, policy=RuntimeParams(keep_every=1))
    save(checkpoints(tmp_path, keep_every=1), 1)
    assert other.kept != checkpoints(tmp_path).kept


def test_where_links_are_not_possible_a_copy_is_kept(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    kept = checkpoints(tmp_path, keep_every=1)
    save(kept, 1)
    assert torch.load(kept.kept / "step-00000001.pt", weights_only=True)["step"] == 1


def test_a_damaged_one_gives_way_to_one_that_is_whole(tmp_path):
    kept = checkpoints(tmp_path, keep_last=2)
    save(kept, 100)
    (tmp_path / "step-00000200.pt").write_bytes(b"damage")
    assert kept.load()["step"] == 100
    save(kept, 250)
    assert names(tmp_path) == ["damaged-step-00000200.pt", "step-00000100.pt", "step-00000250.pt"]


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), MemoryError()])
def test_a_file_that_could_not_be_read_this_time_is_not_passed_over(tmp_path, monkeypatch, error):
    kept = checkpoints(tmp_path)
    save(kept, 100, 200)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(type(error)):
        kept.load()
    assert names(tmp_path) == ["step-00000100.pt", "step-00000200.pt"]


def test_what_a_killed_process_left_is_removed_with_the_lock(tmp_path):
    kept = checkpoints(tmp_path)
    (tmp_path / ".step-00000100.pt.abc.tmp").write_bytes(b"half")
    with kept.lock(Processes()):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("theirs", "ours", "found"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["  a.b was 1, is 2"]),
        ({"a": {"b": 1}}, {"a": {}}, ["  a.b was 1, is absent"]),
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        ({"a": None}, {"a": "x"}, ["  a was None, is x"]),
    ],
)
def test_differences_are_named(theirs, ours, found):
    assert differences(theirs, ours) == found
