"""What is wrong with the file of a plug-in is told with its path."""

import sys

import pytest

from vlalign.errors import VlalignError
from vlalign.registry import Registered, plugins


class Kind(Registered):
    """A kind of plug-ins for this test."""

    demanded = ("work",)

    def work(self):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def broken(:", r"thing\.py cannot be imported \(SyntaxError: .*\); mend or remove it"),
        ("import no_such_module", r"thing\.py cannot be imported \(ModuleNotFoundError: "),
        ("raise SystemExit(0)", r"thing\.py cannot be imported \(SystemExit: 0\)"),
        ("VALUE = 1", r"thing\.py has no class that derives from Kind"),
        (
            f"from {__name__} import Kind\nclass Thing(Kind):\n    'One.'",
            r"thing\.py: Thing has no method `work`; see CONTRIBUTING\.md",
        ),
    ],
)
def test_a_file_that_is_no_plug_in_is_named(tmp_path, monkeypatch, content, message):
    package = tmp_path / "kinds_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "thing.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    plugins.cache_clear()
    with pytest.raises(VlalignError, match=message):
        plugins(Kind, package.name)
