"""`make lint` holds the direction of imports; here is what its contracts cannot say."""

import sys

import grimp


def test_the_losses_import_torch_alone():
    graph = grimp.build_graph("vlalign", include_external_packages=True, cache_dir=None)
    losses = {name for name in graph.modules if f"{name}.".startswith("vlalign.objectives.")}
    imported = {name for loss in losses for name in graph.find_modules_directly_imported_by(loss)}
    assert imported - losses - sys.stdlib_module_names == {"torch"}
