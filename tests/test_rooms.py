"""The rooms of the package: what each says of itself, what importing one costs, and how long modules are."""

import ast
import subprocess
import sys

import pytest

import segbalance
from tests.support.places import ROOT

PACKAGE = ROOT / "segbalance"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
DOORS = ["data_processing.py", "dataloader.py", "model.py", "train.py", "transforms.py"]


def modules(room):
    return sorted(path.stem for path in (PACKAGE / room).glob("*.py") if path.stem != "__init__")


def test_the_top_level_has_the_five_doors_and_no_other_module():
    assert sorted(path.name for path in ROOT.glob("*.py")) == DOORS


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_comes_in_and_what_goes_out_and_names_its_modules(room):
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
    assert len(tree.body) == 1, "nothing but a docstring: an import here is paid by every worker process"
    text = ast.get_docstring(tree)
    assert 5 <= len(text.splitlines()) <= 15
    if room != "commands":  # whose modules are the verbs
        missing = [name for name in modules(room) if f"`{name}`" not in text]
        assert not missing


def test_no_module_is_longer_than_400_lines():
    code = [*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in code}
    assert len(lengths) > 150
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_importing_the_package_loads_neither_tensorflow_nor_pandas():
    program = (
        "import segbalance, sys; print([n for n in ('tensorflow', 'pandas', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_none_hides_a_room():
    assert segbalance.__all__ and not set(segbalance.__all__) & set(ROOMS)
    for name in segbalance.__all__:
        assert getattr(segbalance, name) is not None
    assert set(segbalance.__all__) <= set(dir(segbalance))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        segbalance.nothing  # noqa: B018
