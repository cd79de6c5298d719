"""environment.yml and constraints.txt say what pyproject.toml says."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def requirements(lines):
    parsed = map(Requirement, lines)
    return {canonicalize_name(item.name): item.specifier for item in parsed}


def pip_section():
    return next(entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict))


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements(line for line in lines if line.strip() and not line.startswith("#"))


def test_what_is_pinned_installs_on_every_python_3_11():
    """Systems have other releases of it than the one that the pins were made with."""
    pinned = [one for one in metadata.distributions() if canonicalize_name(one.name) in pins()]
    wanted = {f"{one.name} {one.version}": one.metadata.get("Requires-Python") for one in pinned}
    assert len(wanted) > 100
    assert not {name: python for name, python in wanted.items() if python and "3.11.0" not in SpecifierSet(python)}


def test_every_dependency_is_in_the_conda_environment_with_the_same_bounds():
    listed = requirements(line for line in pip_section() if not line.startswith("-"))
    assert listed == requirements(PROJECT["dependencies"])


def test_the_conda_environment_installs_the_project_under_its_constraints():
    assert "--constraint constraints.txt" in pip_section()
    assert any(line.startswith("--editable .") for line in pip_section())


def test_conda_forge_is_the_only_channel():
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]


def test_the_python_of_the_conda_environment_is_one_that_the_project_supports():
    version = next(entry for entry in ENVIRONMENT["dependencies"] if str(entry).startswith("python=")).split("=")[1]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)


@pytest.mark.parametrize("group", ["dependencies", "frozen", "generation", "tracking", "test", "docs", "dev"])
def test_every_dependency_is_pinned_within_its_bounds(group):
    lines = PROJECT["dependencies"] if group == "dependencies" else PROJECT["optional-dependencies"][group]
    pinned = pins()
    for name, bounds in requirements(line for line in lines if not line.startswith("vlalign[")).items():
        assert name in pinned, f"constraints.txt does not pin {name}"
        (pin,) = pinned[name]
        assert pin.operator == "=="
        assert bounds.contains(pin.version), f"{name}: {pin} is not within {bounds}"


def test_every_constraint_is_one_exact_version():
    for name, specifier in pins().items():
        assert [pin.operator for pin in specifier] == ["=="], name
