"""The script that draws the figures of docs/ from finished results."""

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("docs_figures", DOCS / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("order", [1.5, 4, 16])
def test_weights_of_a_norm_are_those_of_the_page(figures, order):
    """w_r = (relu(x_r) / ‖relu(x)‖_q)^(q − 1)"""
    x = np.array(figures.PHRASES["two regions stand out"])
    positive = x.clip(0)
    expected = (positive / (positive**order).sum() ** (1 / order)) ** (order - 1)
    assert figures.pool_weights(x.tolist(), "holder", norm_order=order) == pytest.approx(expected.tolist())


def test_other_weights_are_those_of_the_page(figures):
    x = np.array(figures.PHRASES["two regions stand out"])
    assert figures.pool_weights(x.tolist(), "max") == [1, 0, 0, 0, 0]
    assert figures.pool_weights(x.tolist(), "prefix", size_exponent=0.75)[:3] == pytest.approx([2**-0.75] * 2 + [0])
    soft = np.exp(x / 0.1) / np.exp(x / 0.1).sum()
    assert figures.pool_weights(x.tolist(), "logmean", softness=0.1) == pytest.approx(soft.tolist())


def test_the_figure_of_gradients_is_the_one_that_the_script_draws(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", tmp_path)
    figures.gradients()
    drawn, kept = (ElementTree.parse(folder / "gradients.svg").getroot() for folder in (tmp_path, DOCS / "figures"))
    assert list(drawn.itertext()) == list(kept.itertext())
