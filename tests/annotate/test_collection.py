import gc
import weakref

import pytest

from vlalign.garbage import frozen, no_collection


class Cycle:
    def __init__(self):
        self.me = self


def test_cycles_stay_until_the_end_of_the_pause():
    gc.collect()
    with no_collection():
        with no_collection():
            cycle = weakref.ref(Cycle())
        gc_was_on = gc.isenabled()
        [Cycle() for _ in range(10_000)]
        assert cycle() is not None
    assert (gc_was_on, gc.isenabled()) == (False, True)
    gc.collect()
    assert cycle() is None


@pytest.mark.parametrize("pause", [no_collection, frozen])
def test_an_error_ends_the_pause(pause):
    with pytest.raises(RuntimeError), pause():
        raise RuntimeError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_exists_is_passed_over_and_what_is_made_is_not():
    old = Cycle()
    before = weakref.ref(old)
    with frozen():
        del old
        new = weakref.ref(Cycle())
        gc.collect()
        assert before() is not None
        assert new() is None
    gc.collect()
    assert before() is None
