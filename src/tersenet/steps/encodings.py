"""From a placement and observed ranges to a plan: every number is decided here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx

from tersenet.capabilities import Capabilities, Kernel
from tersenet.graph.gates import Matrix, matrices
from tersenet.graph.operators import WEIGHT_AXIS, kind_of
from tersenet.graph.walk import bind, constant, is_constant, outputs, shape_of
from tersenet.numerics.affine import bias_encoding, encode, fake_quantize, fit_bias
from tersenet.numerics.ranges import Estimator
from tersenet.numerics.sharing import shared_span
from tersenet.numerics.weights import weight_encoding
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding, Scheme
from tersenet.steps.correct import Correction
from tersenet.steps.placement import Placement


@dataclass(frozen=True)
class Choice:
    """What was asked for one operator's numbers.

    Args:
        weights, activations: integer types.
        granularity: of weights.
        group_size: of per-group weights.
        weight_ranges: how weights' scales are chosen (`tersenet.numerics.weights`).
        symmetric: activations on symmetric grids.
        power_of_two: all scales are powers of two.
        full_range: weights may use the lowest integer.
        source: the grid that the weight lay on in the file that it came from.
        learned: grids that training found, by the name of the argument.
        shared: the weight as it was before anything was folded into it, where its numbers share a few values.
    """

    weights: str = "int8"
    activations: str = "int8"
    granularity: str = "per-channel"
    group_size: int = 0
    weight_ranges: str = "minmax"
    symmetric: bool = False
    power_of_two: bool = False
    full_range: bool = False
    source: Encoding | None = None
    learned: Mapping[str, Encoding] = field(default_factory=dict)
    shared: Tensor | None = None


def fill(
    module: fx.GraphModule,
    placement: Placement,
    capabilities: Capabilities,
    estimators: Mapping[str, Estimator],
    choose: Callable[[fx.Node], Choice],
    correction: Correction,
    bits: Mapping[str, int],
) -> QuantizationPlan:
    """The plan of a placement.

    Args:
        module: the deployable graph.
        placement: points and groups.
        capabilities: the runtime's table.
        estimators: of every quantized value that is no constant, having seen the calibration data.
        choose: what was asked for an operator.
        correction: what rounded weights move, to be taken out of biases.
        bits: value -> how many it has, where those are fewer than 8 (`tersenet.steps.bits`).
    """
    values = _values(module, placement, estimators, choose, bits)
    uses = {place: values[group_member] for place, group_member in _members(placement).items()}
    units, offsets = {}, {}
    for anchor, (nodes, kernel) in placement.units.items():
        weights, offset = _weights(module, nodes[0], kernel, capabilities, choose(nodes[0]), values, correction)
        if offset is not None:
            offsets[anchor] = tuple(offset.tolist())
        units[anchor] = Unit(tuple(node.name for node in nodes), kind_of(nodes[0]), weights, kernel.halves, kernel.dynamic, kernel.rounding)
    return QuantizationPlan((capabilities.name,), values, units, uses, placement.float_operators, offsets)


def _members(placement: Placement) -> dict[str, str]:
    """Each special use -> one value of the group whose numbers it takes."""
    first = {group: name for name, group in reversed(placement.groups.items())}
    return {place: first[group] for place, group in placement.uses.items()}


def _values(
    module: fx.GraphModule,
    placement: Placement,
    estimators: Mapping[str, Estimator],
    choose: Callable[[fx.Node], Choice],
    bits: Mapping[str, int],
) -> dict[str, Encoding]:
    groups: dict[str, list[fx.Node]] = {}
    for name, node in placement.values.items():
        groups.setdefault(placement.groups[name], []).append(node)
    results = {result.name for result in outputs(module)}
    encodings: dict[str, Encoding] = {}
    for group, members in groups.items():
        shared = group if len(members) > 1 else ""
        numbers = _group_encoding(module, members, placement.fixed.get(group), estimators, choose, bits)
        for node in members:
            encodings[node.name] = replace(numbers, role=_role(node, results), shared=shared)
    return {name: encodings[name] for name in placement.values}


def _group_encoding(
    module: fx.GraphModule,
    members: list[fx.Node],
    fixed: tuple[float, int] | None,
    estimators: Mapping[str, Estimator],
    choose: Callable[[fx.Node], Choice],
    bits: Mapping[str, int],
) -> Encoding:
    choices = [choose(node) for node in members]
    wide = any(choice.activations == "int16" for choice in choices)
    symmetric = wide or any(choice.symmetric for choice in choices)
    power_of_two = any(choice.power_of_two for choice in choices)
    narrow = max(bits.get(node.name, 8) for node in members)
    scheme = Scheme("int16" if wide else f"int{narrow}", symmetric=symmetric, power_of_two=power_of_two)
    if fixed is not None:
        scale, zero_point = (1 / 32768, 0) if wide else fixed
        return Encoding(scheme, (scale,), (zero_point,))
    ranges = [_range(module, node, scheme, estimators) for node in members]
    return encode(min(low for low, _ in ranges), max(high for _, high in ranges), scheme)


def _range(module: fx.GraphModule, node: fx.Node, scheme: Scheme, estimators: Mapping[str, Estimator]) -> tuple[float, float]:
    if is_constant(node):
        value = constant(module, node)
        return float(value.min()), float(value.max())
    return estimators[node.name].range(scheme)


def _role(node: fx.Node, results: set[str]) -> str:
    if node.op == "placeholder":
        return "input"
    if is_constant(node):
        return "constant"
    return "output" if node.name in results else "activation"


def _weights(
    module: fx.GraphModule,
    node: fx.Node,
    kernel: Kernel,
    capabilities: Capabilities,
    choice: Choice,
    values: Mapping[str, Encoding],
    correction: Correction,
) -> tuple[dict[str, Encoding], Tensor | None]:
    """Encodings of an operator's weight and bias, and what its bias is moved by (None: it stays)."""
    kind = kind_of(node)
    if kernel.dynamic:
        return {matrix.name: _alone(constant(module, matrix.node), matrix, kernel, capabilities, choice) for matrix in matrices(node)}, None
    if kind not in WEIGHT_AXIS:
        return {}, None
    arguments = bind(node)
    weight = constant(module, arguments["weight"])
    scheme, axis = _weight_scheme(node, kernel, capabilities, choice), WEIGHT_AXIS[kind]
    pairs = adds_pairs(capabilities, node, scheme)
    kept = None if pairs else source_encoding(weight, scheme, axis, choice.source)
    if "weight" in choice.learned:
        kept = learned_encoding(choice.learned["weight"], scheme, weight.shape[axis], axis)
    if choice.shared is not None and scheme.granularity == "per-channel":  # what was learned too: it follows from the weights
        kept = shared_encoding(weight, choice.shared, scheme, axis, pairs)
    encoding = kept or weight_encoding(weight, scheme, axis, choice.weight_ranges, pairs, pair_axis=1 - axis)
    offset = correction.offset(node, encoding)
    if (arguments["bias"] is None and offset is None) or kernel.bias == "float":
        return {"weight": encoding}, offset
    source = values[arguments["input"].name]
    bias = torch.zeros(()) if arguments["bias"] is None else constant(module, arguments["bias"])
    fitted = fit_bias(bias if offset is None else bias + offset, source, encoding)
    if fitted != encoding:
        offset = correction.offset(node, fitted)
    return {"weight": fitted, "bias": bias_encoding(source, fitted)}, offset


def adds_pairs(capabilities: Capabilities, node: fx.Node, scheme: Scheme) -> bool:
    """Whether the kernel of a convolution or linear layer adds pairs of products in 16 bits: not where no output has two input channels."""
    held = bind(node)
    alone = kind_of(node).startswith("depthwise") and shape_of(held["weight"])[0] == held["groups"]
    return capabilities.saturating_pairs and scheme.dtype == "int8" and scheme.granularity != "per-group" and not alone


def source_encoding(weight: Tensor, scheme: Scheme, axis: int, source: Encoding | None) -> Encoding | None:
    """The grid of the source in a kernel's own scheme; None where it is no such grid, or the weight does not lie on it any more."""
    if source is None or any(source.zero_point) or source.scheme.bits > scheme.bits or scheme.power_of_two or scheme.granularity == "per-group":
        return None
    channels = weight.shape[axis] if scheme.granularity == "per-channel" else 1
    if source.axis is not None and (source.axis != axis or len(source.scale) != channels):
        return None
    scales = source.scale if source.axis is not None else source.scale * channels
    encoding = Encoding(scheme, scales, (0,) * channels, axis if scheme.granularity == "per-channel" else None, "weight")
    return encoding if torch.allclose(fake_quantize(weight, encoding), weight, rtol=1e-4, atol=1e-3 * max(scales)) else None


def shared_encoding(weight: Tensor, source: Tensor, scheme: Scheme, axis: int, pairs: bool) -> Encoding:
    """A grid that gives equal values of a codebook equal integers in all channels: scales have the factors that were folded into them.

    Args:
        weight: folded.
        source: as it shares its values.
        pairs: the kernel adds pairs of products in 16 bits: half the range never overflows them.
    """
    steps = scheme.highest // 2 + 1 if pairs else scheme.highest
    spans = shared_span(weight, source, axis)
    found = encode(-spans * scheme.highest / steps, spans * scheme.highest / steps, scheme, axis, "weight")
    return replace(found, zero_point=(0,) * len(found.scale))


def learned_encoding(learned: Encoding, scheme: Scheme, channels: int, axis: int) -> Encoding:
    """What training found, in a kernel's own scheme: one scale for all channels where the grid that learned had one."""
    spread = scheme.granularity == "per-channel" and learned.axis is None
    scales = learned.scale * channels if spread else learned.scale
    scheme = replace(scheme, restricted=learned.scheme.restricted)
    return Encoding(scheme, scales, (0,) * len(scales), None if scheme.granularity == "per-tensor" else axis, "weight")


def _alone(weight: Tensor, matrix: Matrix, kernel: Kernel, capabilities: Capabilities, choice: Choice) -> Encoding:
    """The encoding of a matrix (outputs, inputs) of an operator whose weights alone are integers; one scale a gate is one for each of its outputs."""
    granularity = choice.granularity if choice.granularity in kernel.granularities else kernel.granularities[0]
    scheme = Scheme(
        choice.weights,
        symmetric=True,
        granularity="per-channel" if granularity == "per-channel" else "per-tensor",
        restricted=capabilities.restricted_weights or not choice.full_range,
        power_of_two=choice.power_of_two,
    )
    pairs = capabilities.saturating_pairs and scheme.dtype == "int8" and kernel.dynamic == "whole"
    gates = matrix.gates
    if matrix.name in choice.learned:
        by_gate = granularity == "per-gate" and gates > 1
        return learned_encoding(choice.learned[matrix.name], replace(scheme, granularity="per-channel") if by_gate else scheme, len(weight), 0)
    if granularity != "per-gate" or gates == 1:
        return weight_encoding(weight, scheme, 0, choice.weight_ranges, pairs)
    size = len(weight) // gates
    each = [weight_encoding(part, scheme, 0, choice.weight_ranges, pairs).scale[0] for part in weight.split(size)]
    scales = tuple(scale for scale in each for _ in range(size))
    return Encoding(replace(scheme, granularity="per-channel"), scales, (0,) * len(scales), 0, "weight")


def _weight_scheme(node: fx.Node, kernel: Kernel, capabilities: Capabilities, choice: Choice) -> Scheme:
    kind = kind_of(node)
    granularity = choice.granularity if choice.granularity in kernel.granularities else kernel.granularities[0]
    if kind.startswith("conv_transpose") and bind(node)["groups"] > 1:
        granularity = "per-tensor"  # outputs of different groups share an index of the axis that scales would run along
    if granularity == "per-channel" and shape_of(bind(node)["weight"])[WEIGHT_AXIS[kind]] == 1:
        granularity = "per-tensor"
    return Scheme(
        choice.weights,
        symmetric=True,
        granularity=granularity,
        group_size=choice.group_size if granularity == "per-group" else 0,
        restricted=capabilities.restricted_weights or not choice.full_range,
        power_of_two=choice.power_of_two,
    )


def observed_range(module: fx.GraphModule, node: fx.Node, estimators: Mapping[str, Estimator]) -> tuple[float, float]:
    """The range of a value on an 8-bit grid, for checks before numbers are fixed."""
    return _range(module, node, Scheme("int8"), estimators)
