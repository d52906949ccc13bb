"""The tests' own stubs: what they refuse, and that all others are made by them."""

import ast

import pytest
from _pytest.monkeypatch import derive_importpath

from tests.support.places import ROOT
from tests.support.stubs import stubbing

DOORS = {"data_processing", "dataloader", "model", "train", "transforms"}
PLAIN = {
    "argv",
    "path",
    "version_info",
    "name",
    "stdout",
    "stderr",
}  # of sys and os: values, as constants are
PATCHERS = {"setattr", "stub", "never"}


def doors_of(tree):
    """The names that a file gives to doors."""
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return {alias.asname or alias.name for alias in aliases if alias.name in DOORS}


@pytest.fixture(scope="module")
def patches():
    """[(place, function that patches, owner as written or None, name or "the.whole.path")] in all tests."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")) + [ROOT / "tests/conftest.py"]:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            function = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else None
            if function in PATCHERS:
                first, second = [*node.args, None][:2]
                whole = isinstance(first, ast.Constant)
                assert whole or ast.unparse(first) not in doors_of(tree), f"{path} patches a door"
                found.append((f"{path}:{node.lineno}", function, *(
                    (None, first.value) if whole else (ast.unparse(first), ast.unparse(second).strip("'"))
                )))  # fmt: skip
    return found


def test_patches_are_of_rooms_and_not_of_doors(patches):
    written = [(place, path) for place, _, owner, path in patches if owner is None]
    assert len(written) > 20
    for place, path in written:
        assert path.split(".")[0] not in DOORS, place
        name, owner = derive_importpath(path, raising=True)
        assert hasattr(owner, name), place


def test_functions_are_patched_by_stubs_alone(patches):
    others = [(place, path.split(".")[-1]) for place, function, _, path in patches if function == "setattr"]
    assert len(others) > 20
    for place, name in others:
        assert name.isupper() or name in PLAIN, f"{place}: use the fixture stub, which must be called"


class Shelf:
    def take(self):
        return "a book"

    def put(self):
        return "room"


def test_a_stub_stands_in_and_goes():
    with stubbing() as stub:
        stub(Shelf, "take", lambda self: "a stub")
        stub.never(Shelf, "put")
        assert Shelf().take() == "a stub"
    assert Shelf().take() == "a book" and Shelf().put() == "room"


def test_a_stub_that_nothing_calls_is_a_failure():
    with pytest.raises(AssertionError, match="called by nothing: .*'take'"):
        with stubbing() as stub:
            stub(Shelf, "take", lambda self: "a stub")
            Shelf().put()


def test_a_call_of_what_must_not_be_called_is_a_failure_wherever_it_ends():
    with pytest.raises(AssertionError, match="called: .*'put'"):
        with stubbing() as stub:
            stub.never(Shelf, "put")
            with pytest.raises(pytest.fail.Exception, match="put was called"):
                Shelf().put()
