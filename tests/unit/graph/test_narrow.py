"""Values of fewer than 8 bits: where clips stand, and that graph and plan of 8 bits with clips compute what the narrow grids are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import fx

from tersenet import Quantize
from tersenet.capabilities import Kernel
from tersenet.graph.deploy import deployable
from tersenet.graph.narrow import clip_narrow_values, clipped_values
from tersenet.graph.operators import kind_of
from tersenet.graph.rewrite import Simulation, apply_plan
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import calls
from tersenet.model import Model
from tersenet.numerics.affine import dequantize, encode, fake_quantize, quantize
from tersenet.plan import QuantizationPlan
from tersenet.schemes import Encoding, Scheme
from unit.steps.test_quantize import TABLE, conv, quantized

WIDTHS = ("int2", "int3", "int4", "int5", "int6", "int7")


@given(st.sampled_from(WIDTHS), st.booleans(), st.floats(-9, 0.5), st.floats(0.01, 9), st.integers(0, 2**32 - 1))
def test_in_bytes_it_is_the_same_grid_whose_top_is_the_byte_s(dtype: str, symmetric: bool, low: float, width: float, seed: int) -> None:
    encoding = encode(low, low + width, Scheme(dtype, symmetric=symmetric))
    stored = encoding.in_bytes()
    values = torch.from_numpy(np.random.default_rng(seed).uniform(-20, 20, 256).astype(np.float32))
    below = quantize(values, stored).to(torch.int64)
    lowest = 128 - (1 << encoding.scheme.bits)
    assert (stored.scheme.dtype, stored.scheme.highest) == ("int8", 127)
    assert torch.equal(dequantize(below.clamp(min=lowest), stored), fake_quantize(values, encoding))
    assert stored.in_bytes() == stored


def test_grids_of_8_bits_and_more_stay() -> None:
    for dtype in ("int8", "uint8", "int16"):
        encoding = Encoding(Scheme(dtype), (1.0,), (0,))
        assert encoding.in_bytes() is encoding


def residual(net, x):
    first = torch.relu(net.one(x))
    total = first + net.two(first)
    parts = torch.cat([torch.max_pool2d(total, 2), torch.max_pool2d(torch.relu(net.three(total)), 2)], 1)
    return net.four(parts)


def layers() -> dict[str, torch.nn.Module]:
    return {"one": conv(), "two": conv(), "three": conv(), "four": conv(8)}


def narrowed(dtype: str = "int4", function=residual, **modules) -> tuple[Model, QuantizationPlan, np.ndarray]:
    _, result, x = quantized(function, Quantize(activations=dtype, ranges="mse"), **(modules or layers()))
    return result.model, result.model.plans[0], x


def kinds_by_name(module: fx.GraphModule) -> dict[str, str]:
    return {node.name: kind_of(node) for node in calls(module)}


def test_only_what_makes_something_below_the_grid_is_clipped() -> None:
    model, plan, _ = narrowed()
    assert set(clipped_values(deployable(model), plan)) == {"conv2d_1", "add"}


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("fuses", [(), ("clamp",)])
def test_with_clips_a_plan_of_8_bits_computes_the_narrow_one(dtype: str, fuses: tuple[str, ...]) -> None:
    model, plan, x = narrowed(dtype)
    kernels = {**TABLE.kernels, "clamp": Kernel(shares="result"), "conv2d": replace(TABLE.kernels["conv2d"], fuses=fuses)}
    module = deployable(model, plan)
    wide = clip_narrow_values(module, plan, kernels)
    assert not wide.narrow
    assert all(encoding.scheme.bits == 8 for encoding in wide.values.values())
    fused = "conv2d_1_unclipped" in wide.units and wide.units["conv2d_1_unclipped"].nodes == ("conv2d_1_unclipped", "conv2d_1")
    assert fused == bool(fuses)
    assert kinds_by_name(module)["add"] == "clamp"
    assert kinds_by_name(module)["add_unclipped"] == "add"
    apply_plan(module, wide, Simulation())
    assert np.array_equal(replace(model, graph=module, plans=())(x), simulate(model, plan)(x))


@pytest.mark.parametrize("dtype", WIDTHS)
def test_the_simulation_has_only_values_of_the_grid(dtype: str) -> None:
    model, plan, x = narrowed(dtype, lambda net, x: torch.flatten(net.one(x) + x, 1), one=conv())
    simulated = simulate(model, plan).graph
    (node,) = [node for node in simulated.graph.nodes if node.name.startswith("conv2d_quantized")]
    seen = {}

    class Watch(fx.Interpreter):
        def run_node(self, n):
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    with torch.no_grad():
        Watch(simulated).run(torch.from_numpy(x * 3))
    steps = np.round(seen[node.args[0].name].double().numpy() / plan.values["conv2d"].scale[0]) + plan.values["conv2d"].zero_point[0]
    half = 1 << (plan.values["conv2d"].scheme.bits - 1)
    expected = (np.clip(steps, -half, half - 1) - plan.values["conv2d"].zero_point[0]) * plan.values["conv2d"].scale[0]
    np.testing.assert_allclose(seen[node.name].numpy(), expected.astype(np.float32), rtol=1e-6, atol=1e-7)


def test_a_plan_of_8_bits_and_its_graph_stay() -> None:
    model, plan, _ = narrowed("int8")
    module = deployable(model, plan)
    before = module.code
    assert clip_narrow_values(module, plan, TABLE.kernels) is plan
    assert module.code == before


def test_parts_of_what_is_split_need_no_clip_and_a_pad_below_the_grid_does() -> None:
    def split(net, x):
        one, two = torch.relu(net.one(x)).split(2, 1)
        return net.two(torch.cat([two, one], 1))

    model, plan, _ = narrowed("int4", split, one=conv(), two=conv())
    assert clipped_values(deployable(model), plan) == ()
    table = replace(TABLE, kernels={**TABLE.kernels, "pad": Kernel(shares="result")})
    for value, clipped in ((0.0, ()), (-9.0, ("pad",))):
        function = lambda net, x, value=value: net.two(torch.nn.functional.pad(torch.relu(net.one(x)), (1, 1), value=value))  # noqa: E731
        _, result, _ = quantized(function, Quantize(activations="int4"), tables=(table,), one=conv(), two=conv())
        grid = encode(0.0, 1.0, Scheme("int4"))
        plan = replace(result.model.plans[0], values={**result.model.plans[0].values, "relu": grid, "pad": grid})
        assert clipped_values(deployable(result.model), plan) == clipped
