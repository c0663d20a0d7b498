"""The face: every public name resolves, says what it is, and cannot be hidden by a module of the same name."""

import inspect
from pathlib import Path

import pytest

import tersenet
from tersenet import FACE

MODULES = {path.stem for path in Path(tersenet.__file__).parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}


@pytest.mark.parametrize("name", sorted(FACE))
def test_a_public_name_resolves_and_says_what_it_is(name: str) -> None:
    found = getattr(tersenet, name)
    assert found.__module__.startswith("tersenet."), "the face shows what is ours"
    text = vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__
    assert text is not None
    assert len(text.strip()) > 10


@pytest.mark.parametrize("name", sorted(FACE))
def test_no_module_hides_it(name: str) -> None:
    """Importing `tersenet.x` sets the attribute `x` of the package: a function of that name would be gone."""
    assert name not in MODULES


def test_all_of_the_face_is_listed() -> None:
    assert set(FACE) <= set(dir(tersenet))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'kompress'"):
        tersenet.kompress  # noqa: B018
