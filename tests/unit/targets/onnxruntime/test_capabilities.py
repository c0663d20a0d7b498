"""The capability table of onnxruntime, by instruction set."""

import platform

import pytest

from tersenet.errors import RecipeError
from tersenet.graph.gates import GATES
from tersenet.graph.operators import KINDS, WEIGHT_AXIS
from tersenet.targets.onnxruntime import capabilities as rooms
from tersenet.targets.onnxruntime.capabilities import KERNELS, SATURATES, capabilities, this_cpu
from tersenet.targets.onnxruntime.operators.table import BUILDERS


def test_it_speaks_of_kinds_that_exist_and_can_be_written() -> None:
    assert set(KERNELS) <= KINDS
    assert set(KERNELS) <= set(BUILDERS)
    assert {kind for kind, kernel in KERNELS.items() if kernel.weights and not kernel.dynamic} <= set(WEIGHT_AXIS)
    assert {kind for kind, kernel in KERNELS.items() if kernel.dynamic} <= set(GATES)


def test_builders_are_for_kinds_that_exist() -> None:
    conversions = {name for name in BUILDERS if "quantize" in name}
    assert set(BUILDERS) - KINDS - conversions == {"floordiv"}  # of sizes


@pytest.mark.parametrize("cpu", SATURATES)
def test_pairs_saturate_where_there_is_no_vnni(cpu: str) -> None:
    assert capabilities(cpu).saturating_pairs == (cpu in ("x86-avx2", "x86-avx512"))


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'x86-avx2'"):
        capabilities("x86-avx")


@pytest.mark.parametrize(
    ("machine", "flags", "name"),
    [
        ("x86_64", ("avx", "avx2"), "x86-avx2"),
        ("x86_64", ("avx", "avx2", "avx512"), "x86-avx512"),
        ("x86_64", ("avx2", "avx512", "avx512-vnni"), "x86-avx512-vnni"),
        ("x86_64", ("avx2", "avx-vnni"), "x86-avx-vnni"),
        ("x86_64", (), "x86-avx2"),
        ("aarch64", ("neon", "dotprod"), "arm64"),
    ],
)
def test_this_machine_is_told_by_its_flags(monkeypatch: pytest.MonkeyPatch, machine: str, flags: tuple[str, ...], name: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(rooms, "instruction_sets", lambda: flags)
    assert this_cpu() == name
    assert capabilities().saturating_pairs == SATURATES[name]
