"""One spelling for each operator: small exact rewrites, each a function that changes a copied graph in place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from tersenet.graph.build import call, infer
from tersenet.graph.operators import MOVEMENTS, aten_name, kind_of
from tersenet.graph.walk import add_constant, bind, calls, constant, dtype_of, is_constant, is_float, shape_of

aten = torch.ops.aten
IDENTITIES = {
    "dropout.default",
    "feature_dropout.default",
    "alpha_dropout.default",
    "feature_alpha_dropout.default",
    "detach.default",
    "clone.default",
    "contiguous.default",
    "alias.default",
    "lift_fresh_copy.default",
    "positive.default",
    "_conj.default",
    "resolve_conj.default",
    "resolve_neg.default",
}
CHECKS = {"_assert_tensor_metadata.default", "_assert_async.msg", "_assert_scalar.default", "sym_constrain_range_for_size.default"}


def functionalize(module: fx.GraphModule) -> None:
    """Operators that write into their input (``relu_``) become ones that return a new tensor, and later readers read that.

    Sound because the exporter has already refused graphs in which a view and its base are both read after the write.
    """
    order = {node: position for position, node in enumerate(module.graph.nodes)}
    for node in list(calls(module)):
        packet, _, overload = aten_name(node).partition(".")
        if not packet.endswith("_") or packet.endswith("__") or not isinstance(node.args[0], fx.Node):
            continue
        plain = getattr(aten, packet[:-1], None)
        if plain is None or overload not in plain.overloads():
            continue
        node.target = getattr(plain, overload)
        written = node.args[0]
        for user in list(written.users):
            if user is not node and order[user] > order[node]:
                user.replace_input_with(written, node)


def views_to_reshapes(module: fx.GraphModule) -> None:
    """A view asks for memory in order, which holds no longer once copies are dropped; a reshape asks for nothing."""
    for node in calls(module):
        if aten_name(node) in ("view.default", "_unsafe_view.default"):
            node.target = aten.reshape.default


def drop_identities(module: fx.GraphModule) -> None:
    """Dropout, copies, casts to the same type, expansions to the same shape and checks vanish."""
    for node in list(calls(module)):
        name = aten_name(node)
        if name in CHECKS:
            module.graph.erase_node(node)
        elif name in IDENTITIES or _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
            module.graph.erase_node(node)


def _changes_nothing(node: fx.Node) -> bool:
    kind = kind_of(node)
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or not isinstance(source.meta.get("val"), torch.Tensor) or not isinstance(node.meta.get("val"), torch.Tensor):
        return False
    if kind == "cast":
        return dtype_of(source) == dtype_of(node)
    if kind in ("reshape", "expand"):
        return all(isinstance(size, int) for size in (*shape_of(source)[1:], *shape_of(node)[1:])) and str(shape_of(source)) == str(shape_of(node))
    if kind == "slice":
        return str(shape_of(source)) == str(shape_of(node))
    return False


def fold_constants(module: fx.GraphModule) -> None:
    """What can be computed now is: masks, position tables, normalized weights. Nothing over 64 MB is made bigger."""
    for node in list(calls(module)):
        maker: fx.Node = node.args[0] if kind_of(node) == "getitem" else node  # type: ignore[assignment]  # one of several results
        children = maker.all_input_nodes
        if not all(is_constant(child) for child in children) or aten_name(maker).startswith(("rand", "bernoulli", "getitem")):
            continue
        if not isinstance(node.meta.get("val"), torch.Tensor) or not all(isinstance(size, int) for size in shape_of(node)):
            continue
        arguments, keywords = fx.node.map_arg((maker.args, maker.kwargs), lambda child: constant(module, child))
        value = maker.target(*arguments, **keywords)  # type: ignore[operator]
        value = value if maker is node else value[node.args[1]]
        held = sum(constant(module, child).nbytes for child in children)
        if value.nbytes > max(held, 64_000_000):
            continue
        made = add_constant(module, node.name, value.contiguous().clone(), node, node)
        made.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(made)
        module.graph.erase_node(node)


def spell_activations(module: fx.GraphModule) -> None:
    """``hardtanh``, ``clamp`` and ``clamp_min`` with the limits of relu and relu6 become those."""
    for node in list(calls(module)):
        name = aten_name(node)
        if name not in ("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default", "threshold.default"):
            continue
        low, high = _limits(node, name)
        if low == 0 and high == 6:
            node.target, node.args, node.kwargs = aten.relu6.default, (node.args[0],), {}
        elif low == 0 and high is None:
            node.target, node.args, node.kwargs = aten.relu.default, (node.args[0],), {}
        elif name != "threshold.default":
            node.target, node.args, node.kwargs = aten.clamp.default, (node.args[0], low, high), {}


# What the values of an operator lie in, whatever comes in.
RANGES = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0), "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0)}
# Operators whose values are some of those that come in.
CHOOSING = MOVEMENTS - {"pad"}


def drop_idle_activations(module: fx.GraphModule) -> None:
    """A relu, relu6 or clamp of values that lie within its limits already vanishes, as the second of two that a residual branch stood between."""
    for node in list(calls(module)):
        low, high = _range(node) if kind_of(node) in ("relu", "relu6", "clamp") else (-math.inf, -math.inf)
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or dtype_of(source) != dtype_of(node):
            continue
        least, most = _range(source)
        if low <= least and most <= high:
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)


def _range(node: fx.Node) -> tuple[float, float]:
    """Limits that the values of a node are known to keep."""
    while kind_of(node) in CHOOSING and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    if kind_of(node) != "clamp":
        return RANGES.get(kind_of(node), (-math.inf, math.inf))
    given = bind(node)
    low, high = (given.get(name) for name in ("min", "max"))
    if not all(limit is None or isinstance(limit, int | float) for limit in (low, high)):
        return -math.inf, math.inf
    return -math.inf if low is None else low, math.inf if high is None else high


def _limits(node: fx.Node, name: str) -> tuple[Any, Any]:
    arguments = bind(node)
    if name == "hardtanh.default":
        return arguments["min_val"], arguments["max_val"]
    if name == "threshold.default":
        return (0, None) if arguments["threshold"] == 0 and arguments["value"] == 0 else (math.nan, math.nan)
    return arguments.get("min"), arguments.get("max")


def spell_pooling(module: fx.GraphModule) -> None:
    """The mean over an image is adaptive pooling to 1x1, whichever way it was written; pooling to the same size is nothing."""
    for node in list(calls(module)):
        if aten_name(node) == "mean.dim" and dtype_of(node) == dtype_of(node.args[0]):
            arguments = bind(node)
            source = arguments["self"]
            rank = len(shape_of(source))
            axes = sorted(axis % rank for axis in arguments["dim"] or ())
            if rank == 4 and axes == [2, 3]:
                node.kwargs = {}  # the node stays, for what is known of its value goes by its name
                if arguments["keepdim"]:
                    node.target, node.args = aten.adaptive_avg_pool2d.default, (source, [1, 1])
                else:
                    pooled = call(module, aten.adaptive_avg_pool2d.default, (source, [1, 1]), before=node, like=node)
                    node.target, node.args = aten.flatten.using_ints, (pooled, 1)
        elif aten_name(node) == "avg_pool2d.default":
            _spell_whole(module, node)
        elif aten_name(node) in ("adaptive_avg_pool2d.default", "adaptive_max_pool2d.default"):
            _spell_adaptive(module, node)


def _spell_whole(module: fx.GraphModule, node: fx.Node) -> None:
    """A window as large as the image, with nothing padded, is adaptive pooling to 1x1."""
    held = bind(node)
    sizes = list(shape_of(held["self"])[2:])
    window = [int(size) for size in held["kernel_size"]] * (2 // len(held["kernel_size"]))
    if window == sizes and not any(held["padding"]) and held["divisor_override"] is None:
        node.target, node.args, node.kwargs = aten.adaptive_avg_pool2d.default, (held["self"], [1, 1]), {}


def _spell_adaptive(module: fx.GraphModule, node: fx.Node) -> None:
    """Adaptive pooling over an input that divides evenly is plain pooling."""
    source, sizes = node.args[0], [int(size) for size in bind(node)["output_size"]]
    held = shape_of(source)[2:]  # type: ignore[arg-type]
    if aten_name(node) != "adaptive_avg_pool2d.default" or not all(isinstance(size, int) for size in held) or sizes == [1, 1]:
        return
    if all(have % want == 0 for have, want in zip(held, sizes, strict=True)):
        kernel = [have // want for have, want in zip(held, sizes, strict=True)]
        if kernel == [1, 1]:
            node.replace_all_uses_with(source)  # type: ignore[arg-type]
        else:
            node.replace_all_uses_with(call(module, aten.avg_pool2d.default, (source, kernel, kernel), before=node, like=node))
        module.graph.erase_node(node)


def spell_convolutions(module: fx.GraphModule) -> None:
    """``padding="same"`` and ``"valid"`` become numbers; padding that differs between two sides becomes a pad in front."""
    for node in list(calls(module)):
        name = aten_name(node)
        if name == "convolution.default":
            _spell_generic_convolution(node)
        if not name.endswith(".padding") or not name.startswith("conv"):
            continue
        arguments = bind(node)
        source, padding = arguments["input"], [0] * len(arguments["stride"])
        if arguments["padding"] == "same":
            kernel = shape_of(arguments["weight"])[2:]
            total = [dilation * (size - 1) for dilation, size in zip(arguments["dilation"], kernel, strict=True)]
            padding = [size // 2 for size in total]
            uneven = [size % 2 for size in total]
            if any(uneven):
                sides = [side for extra in reversed(uneven) for side in (0, extra)]
                source = call(module, aten.constant_pad_nd.default, (source, sides), before=node, like=node)  # aten.pad would fix an open batch
        node.args = (source, arguments["weight"], arguments["bias"], arguments["stride"], padding, arguments["dilation"], arguments["groups"])
        node.target = getattr(aten, name.partition(".")[0]).default


def _spell_generic_convolution(node: fx.Node) -> None:
    arguments = bind(node)
    rank = len(shape_of(arguments["weight"])) - 2
    shared = (arguments["input"], arguments["weight"], arguments["bias"], arguments["stride"], arguments["padding"])
    if arguments["transposed"] and rank in (1, 2):
        node.target = aten.conv_transpose1d.default if rank == 1 else aten.conv_transpose2d.input
        node.args = (*shared, arguments["output_padding"], arguments["groups"], arguments["dilation"])
    elif not arguments["transposed"]:
        node.target = (aten.conv1d, aten.conv2d, aten.conv3d)[rank - 1].default
        node.args = (*shared, arguments["dilation"], arguments["groups"])


def spell_products(module: fx.GraphModule) -> None:
    """A product with a constant matrix is a linear layer, whichever way it was written."""
    for node in list(calls(module)):
        name = aten_name(node)
        if name == "addmm.default":
            bias, source, weight = node.args[:3]
            scales = (bind(node)["beta"], bind(node)["alpha"])
            if is_constant(weight) and is_constant(bias) and scales == (1, 1) and len(shape_of(bias)) == 1:  # type: ignore[arg-type]
                _as_linear(module, node, source, weight, bias)
        elif name in ("mm.default", "matmul.default") and is_constant(node.args[1]) and len(shape_of(node.args[1])) == 2:  # type: ignore[arg-type]
            _as_linear(module, node, node.args[0], node.args[1], None)


def _as_linear(module: fx.GraphModule, node: fx.Node, source: Any, weight: Any, bias: Any) -> None:
    held = add_constant(module, f"{node.name}.weight", constant(module, weight).t().contiguous(), node, weight)
    held.meta["val"] = infer(held) if held.op == "call_function" else held.meta["val"]
    node.target, node.kwargs = aten.linear.default, {}
    node.args = (source, held) if bias is None else (source, held, bias)


def open_attention(module: fx.GraphModule) -> None:
    """Scaled dot-product attention as its products and softmax: softmax(Q K^T * scale + mask) V (Vaswani et al. 2017, equation 1)."""
    for node in list(calls(module)):
        if kind_of(node) != "attention":
            continue
        arguments = bind(node)
        query, key, value = arguments["query"], arguments["key"], arguments["value"]
        if arguments["is_causal"] or arguments["enable_gqa"]:
            mask = _causal_mask(module, node, query, key)
            if mask is None:
                continue
        else:
            mask = arguments["attn_mask"]
        scale = arguments["scale"] if arguments["scale"] is not None else 1 / math.sqrt(shape_of(query)[-1])
        scaled = call(module, aten.mul.Tensor, (query, scale), before=node, like=node)
        turned = call(module, aten.transpose.int, (key, -2, -1), before=node, like=node)
        scores = call(module, aten.matmul.default, (scaled, turned), before=node, like=node)
        if mask is not None:
            if dtype_of(mask) == torch.bool:
                zero = add_constant(module, f"{node.name}.zero", torch.zeros(()), node, node)
                low = add_constant(module, f"{node.name}.low", torch.tensor(-1e9), node, node)
                mask = call(module, aten.where.self, (mask, zero, low), before=node, like=node)
            scores = call(module, aten.add.Tensor, (scores, mask), before=node, like=node)
        weights = call(module, aten.softmax.int, (scores, -1), before=node, like=node)
        node.replace_all_uses_with(call(module, aten.matmul.default, (weights, value), before=node, like=node))
        module.graph.erase_node(node)


def _causal_mask(module: fx.GraphModule, node: fx.Node, query: fx.Node, key: fx.Node) -> fx.Node | None:
    rows, columns = shape_of(query)[-2], shape_of(key)[-2]
    if bind(node)["enable_gqa"] or not isinstance(rows, int) or not isinstance(columns, int):
        return None
    mask = torch.zeros(rows, columns).masked_fill(~torch.ones(rows, columns, dtype=torch.bool).tril(), -1e9)
    return add_constant(module, f"{node.name}.mask", mask, node, node)


def scalars_to_constants(module: fx.GraphModule) -> None:
    """A number in a sum or product becomes a constant, so that it can have an encoding; division by it becomes a product, taking it
    away a sum."""
    plain = {"add.Tensor": aten.add.Tensor, "sub.Tensor": aten.sub.Tensor, "mul.Tensor": aten.mul.Tensor, "div.Tensor": aten.div.Tensor}
    plain |= {"add.Scalar": aten.add.Tensor, "sub.Scalar": aten.sub.Tensor, "mul.Scalar": aten.mul.Tensor, "div.Scalar": aten.div.Tensor}
    for node in list(calls(module)):
        name = aten_name(node)
        if not is_float(node):
            continue
        if name in ("rsub.Scalar", "rsub.Tensor") and bind(node)["alpha"] == 1:
            node.target, node.args, node.kwargs = aten.sub.Tensor, (node.args[1], node.args[0]), {}
            name = "sub.Tensor"
        if name not in plain:
            continue
        arguments = [_as_node(module, node, argument) for argument in node.args[:2]]
        _apply_alpha(module, node, arguments)
        node.target, node.args, node.kwargs = plain[name], tuple(arguments), {}
        if node.target == aten.div.Tensor and is_constant(arguments[1]) and is_float(arguments[1]):
            inverse = add_constant(module, f"{node.name}.inverse", 1 / constant(module, arguments[1]), node, node)
            node.target, node.args = aten.mul.Tensor, (arguments[0], inverse)
        elif node.target == aten.sub.Tensor and is_constant(arguments[1]):  # every runtime has a kernel for sums, not for differences
            negative = add_constant(module, f"{node.name}.negative", -constant(module, arguments[1]), node, node)
            node.target, node.args = aten.add.Tensor, (arguments[0], negative)


def _as_node(module: fx.GraphModule, node: fx.Node, argument: Any) -> Any:
    if isinstance(argument, fx.Node):
        return argument
    if isinstance(argument, int | float) and not isinstance(argument, bool):
        return add_constant(module, f"{node.name}.scalar", torch.tensor(float(argument), dtype=dtype_of(node)), node, node)
    return argument


def _apply_alpha(module: fx.GraphModule, node: fx.Node, arguments: list[Any]) -> None:
    alpha = bind(node).get("alpha", 1)
    if alpha == 1:
        return
    if is_constant(arguments[1]):
        arguments[1] = add_constant(module, f"{node.name}.scaled", constant(module, arguments[1]) * alpha, node, node)
    else:
        factor = add_constant(module, f"{node.name}.alpha", torch.tensor(float(alpha), dtype=dtype_of(node)), node, node)
        arguments[1] = call(module, aten.mul.Tensor, (arguments[1], factor), before=node, like=node)
