import multiprocessing
import pickle

import pytest
import torch

from vlalign.training.data.row_cache import CachedRows, MadeRows, size_of


class Squares:
    """item, when -> its square and a row of it; counts how often it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, item, when):
        self.asked.append(item)
        return torch.tensor(item**2), torch.full((3,), item, dtype=torch.uint8)


@pytest.mark.parametrize("items", [[4, 1, 4, 0], [], [9]])
def test_kept_rows_are_the_fresh_ones(items):
    kept, fresh = CachedRows(Squares(), 10), MadeRows(Squares())
    for _ in range(2):
        for one, other in zip(kept(items, "0/0"), fresh(items, "0/0"), strict=True):
            assert torch.equal(one, other)
            assert one.dtype == other.dtype


def test_a_row_is_made_once():
    make = Squares()
    kept = CachedRows(make, 10)
    make.asked.clear()
    kept([3, 3, 5], "0/0")
    kept([5, 3, 4], "0/1")
    assert sorted(make.asked) == [3, 4, 5]


def test_no_row_is_taken_for_one_that_was_made():
    kept = CachedRows(Squares(), 10)
    assert kept([0], "")[0].tolist() == [0]
    assert kept([7], "")[1].tolist() == [[7, 7, 7]]


def test_forked_processes_share_what_is_kept():
    make = Squares()
    kept = CachedRows(make, 10)
    process = multiprocessing.get_context("fork").Process(target=kept, args=([6, 7], ""))
    process.start()
    process.join()
    make.asked.clear()
    assert kept([7, 6], "")[0].tolist() == [49, 36]
    assert make.asked == []


def test_other_processes_begin_with_nothing():
    again = pickle.loads(pickle.dumps(CachedRows(Squares(), 10)))
    assert again([2], "")[0].tolist() == [4]


def test_size_is_that_of_all_rows():
    assert size_of(Squares(), 10) == 10 * (8 + 3)
