"""Units whose kernels round twice, as the simulation computes them: `tersenet.numerics.fixed_point` at the place of torch's operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import fx

from tersenet.graph.operators import WEIGHT_AXIS
from tersenet.graph.site import POOLED_AXES, Site
from tersenet.graph.walk import add_constant, bind, constant, tensor_inputs
from tersenet.numerics import fixed_point
from tersenet.numerics.affine import quantize
from tersenet.plan import Unit
from tersenet.schemes import Encoding

# float32 holds every whole number up to this.
LARGEST_WHOLE = 1 << 24


def round_twice(module: fx.GraphModule, node: fx.Node, unit: Unit, inputs: Sequence[Encoding | None], result: Encoding) -> None:
    """Rewrite an anchor, in place, as its kernel computes it; kinds without arithmetic stay."""
    if unit.kind in WRITTEN:
        WRITTEN[unit.kind](Site(module, node, unit, inputs, result))


def _weighted(site: Site) -> None:
    held, node, source = bind(site.node), site.node, site.inputs[0]
    if source is None:
        return
    encoding = site.unit.weights["weight"]
    integers = quantize(constant(site.module, held["weight"]), encoding)
    furthest = max(abs(end - source.zero_point[0]) for end in (source.scheme.lowest, source.scheme.highest))
    axis = WEIGHT_AXIS[site.unit.kind]
    largest = int(integers.abs().to(torch.int64).sum([other for other in range(integers.dim()) if other != axis]).max()) * furthest
    weight = add_constant(
        site.module, f"integers.{node.name}", integers.to(torch.float32 if largest < LARGEST_WHOLE else torch.float64), node, held["weight"]
    )
    scale = add_constant(site.module, f"scale.{node.name}", torch.tensor(encoding.scale, dtype=torch.float64), node, held["weight"])
    bias = None
    if held["bias"] is not None and "bias" in site.unit.weights:
        whole = quantize(constant(site.module, held["bias"]), site.unit.weights["bias"]).to(torch.int64)
        bias = add_constant(site.module, f"integers.{node.name}.bias", whole, node, held["bias"])
    rest = tuple(value for name, value in held.items() if name not in ("input", "weight", "bias"))
    scales = (source.scale[0], site.result.scale[0])
    site.become(fixed_point.product_of_weights, node.target, (held["input"], weight, bias), rest, scale, scales, site.bits)


def _matmul(site: Site) -> None:
    site.become(fixed_point.matrix_product, site.node.target, *site.node.args, site.scales)


def _total(site: Site) -> None:
    site.become(fixed_point.total, *site.node.args[:2], site.both, site.bits, site.unit.kind == "sub")


def _product(site: Site) -> None:
    site.become(fixed_point.product, *site.node.args[:2], site.both)


def _relu(site: Site) -> None:
    site.convert_input(fixed_point.requantized, site.scales, True)


def _relu6(site: Site) -> None:
    """The sum with a zero on the input's own grid."""
    site.convert_input(fixed_point.total, 0.0, (site.scales[0], *site.scales), site.bits)


def _clamp(site: Site) -> None:
    site.convert_input(fixed_point.requantized, site.scales)


def _mean(site: Site) -> None:
    site.become(fixed_point.mean, *site.averaged, site.scales)


def _leaky_relu(site: Site) -> None:
    held = bind(site.node)
    site.become(fixed_point.leaky_relu, held["self"], float(held["negative_slope"]), site.scales)


def _prelu(site: Site) -> None:
    site.become(fixed_point.prelu, *site.node.args, site.scales)


def _silu(site: Site) -> None:
    site.become(fixed_point.silu, site.node.args[0], site.scales)


def _hardsigmoid(site: Site) -> None:
    site.become(fixed_point.hardsigmoid, site.node.args[0], site.scales, site.result.zero_point[0])


def _hardswish(site: Site) -> None:
    site.become(fixed_point.hardswish, site.node.args[0], site.scales)


def _resize(site: Site) -> None:
    held, grid = bind(site.node), site.result
    sizes = [int(size) for size in site.node.meta["val"].shape[2:]]
    site.become(fixed_point.resize_bilinear, tensor_inputs(site.node)[0], bool(held["align_corners"]), sizes, grid.scale[0], grid.zero_point[0])


# kind -> what writes it. Kinds that are not here compute nothing, or round once (tables of 256 results).
WRITTEN: Mapping[str, Callable[[Site], None]] = {
    **dict.fromkeys(WEIGHT_AXIS, _weighted),
    "matmul": _matmul,
    "add": _total,
    "sub": _total,
    "mul": _product,
    "relu": _relu,
    "relu6": _relu6,
    "clamp": _clamp,
    **dict.fromkeys(("mean", *POOLED_AXES), _mean),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "silu": _silu,
    "hardsigmoid": _hardsigmoid,
    "hardswish": _hardswish,
    "resize_bilinear": _resize,
}
