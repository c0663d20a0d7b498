"""What pyproject.toml declares, what constraints.txt pins, and what the code imports are the same packages."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from source import CHECKOUT, FILES, imported

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [Requirement(text) for group in (PROJECT["dependencies"], *EXTRAS.values()) for text in group]
PINS = {
    canonicalize_name(requirement.name): requirement
    for line in (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}


def pinned(name: str) -> Version:
    (specifier,) = PINS[canonicalize_name(name)].specifier
    assert specifier.operator == "==", f"{name} is not pinned exactly"
    return Version(specifier.version)


def brought_in() -> set[str]:
    """Every package that the declared ones need here, by the metadata of what is installed."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in DECLARED if one.name != "tersenet"]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in found:
            continue
        found.add((name, extras))
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((canonicalize_name(need.name), frozenset(need.extras)))
    return {name for name, _ in found}


def installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("requirement", [one for one in DECLARED if one.name != "tersenet"], ids=str)
def test_a_declared_range_holds_the_pinned_version(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned(requirement.name), prereleases=True)


def test_everything_that_comes_in_is_pinned() -> None:
    assert {"torch", "numpy", "executorch"} <= brought_in()
    assert brought_in() - set(PINS) == set()


def test_nothing_else_is_pinned() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("constraints.txt is written for Python 3.11")
    absent = sorted(one.name for one in DECLARED if one.name != "tersenet" and not installed(one.name))
    if absent:
        pytest.skip(f"what {', '.join(absent)} would bring in is not known here: not installed (make bench does)")
    assert set(PINS) - brought_in() - {"pip"} == set()


def test_all_means_every_runtime_and_source() -> None:
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "torch", "bench", "dev"}, "torch comes with each runtime"


def test_what_the_code_imports_is_declared() -> None:
    declared = {canonicalize_name(one.name) for one in DECLARED}
    owners = packages_distributions()
    undeclared = set()
    for path in FILES:
        for name in {name.partition(".")[0] for name, _ in imported(path)} - sys.stdlib_module_names - {"tersenet"}:
            if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name])):
                undeclared.add(f"{path.name}: {name}")
    assert undeclared == set()
