"""Rules of operators with products: convolutions, linear layers, matrix products, attention, embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx

from tersenet.graph.dimensions.site import ONE, Axes, Axis, Fixed, Site, Term, Value


def convolution(site: Site) -> Value:
    """Rows of the weight are the channels that it makes; columns those that it reads, of one group."""
    name = site.node.target._schema.name  # type: ignore[union-attr]
    transposed = bool(site.arguments.get("transposed", "transpose" in name))
    weight, source = site.axes("weight"), site.axes("input")
    spatial = len(weight) - 2
    channel = len(source) - spatial - 1
    for axis in (*weight[2:], *source[channel + 1 :]):
        site.pin(axis, f"{site.node.name} takes it as places")
    rows, columns = (weight[1], weight[0]) if transposed else (weight[0], weight[1])
    result = _grouped(site, source[channel], rows, columns, transposed) if site.arguments["groups"] > 1 else rows
    if site.arguments["groups"] == 1:
        site.tie(source[channel], columns)
    if site.arguments.get("bias") is not None:
        result = site.tie(result, *site.axes("bias"))
    _makes(site, result)
    if transposed:
        site.terms.append(Term(1.0, (columns, rows)))
    else:
        site.terms.append(Term(1.0, (result, columns)))
    shape = site.shape()
    return (*source[:channel], result, *(site.fixed(size) for size in shape[channel + 1 :]))


def _grouped(site: Site, source: Axis, rows: Axis, columns: Axis, transposed: bool) -> Axis:
    """Channels of a grouped convolution: the same ones of every group leave, or whole groups."""
    groups = site.arguments["groups"]
    inside, outside = len(source) // groups, (len(rows) if transposed else len(rows) // groups)
    if inside == 1:  # depthwise: each channel goes with what is made from it
        made = rows if not transposed else site.fresh(groups * outside)
        if not isinstance(made, Fixed) and not isinstance(source, Fixed):
            site.tie(made, np.repeat(source, outside))
        else:
            site.pin(made, f"{site.node.name} makes it from {source.why if isinstance(source, Fixed) else 'one channel'}")
            site.pin(source, f"{site.node.name} makes one channel of it")
        if transposed:
            site.tie(columns, source)
            site.pin(rows, f"{site.node.name} makes as many channels of each")
        return made
    which = site.fresh(groups)
    if transposed:
        result = site.fresh(groups * outside)
        site.product(result, (which, rows))
        site.tie(columns, source)
        site.product(source, (which, site.fresh(inside)))
        return result
    site.product(source, (which, columns))
    site.product(rows, (which, site.fresh(outside)))
    return rows


def _makes(site: Site, axis: Axis) -> None:
    if not isinstance(axis, Fixed):
        site.made.append(axis)


def linear(site: Site) -> Value:
    """(..., in) times (out, in)."""
    source, weight = site.axes("input"), site.axes("weight")
    columns = site.tie(source[-1], weight[-1])
    if len(weight) == 1:
        return source[:-1]
    rows = site.tie(weight[0], *(site.axes("bias") if site.arguments.get("bias") is not None else ()))
    _makes(site, rows)
    site.terms.append(Term(1.0, (*source[:-1], columns, rows)))
    return (*source[:-1], rows)


def product(site: Site) -> Value:
    """A matrix product; axes before the last two are lined up as broadcasting does."""
    names = {"addmm": ("mat1", "mat2"), "baddbmm": ("batch1", "batch2"), "bmm": ("self", "mat2"), "mm": ("self", "mat2"), "mv": ("self", "vec")}
    name = site.node.target._schema.name.removeprefix("aten::")  # type: ignore[union-attr]
    first, second = (site.axes(argument) for argument in names.get(name, ("self", "other")))
    result = _product(site, first, second, [site.arguments[argument] for argument in names.get(name, ("self", "other"))])
    if name in ("addmm", "baddbmm"):
        result = site.broadcast(result, site.axes("self"))
    return result


def _product(site: Site, first: Axes, second: Axes, operands: Sequence[fx.Node]) -> Axes:
    one_row, one_column = len(first) == 1, len(second) == 1
    first = (ONE, *first) if one_row else first
    second = (*second, ONE) if one_column else second
    inner = site.tie(first[-1], second[-2])
    batch = site.broadcast(first[:-2], second[:-2]) if len(first) > 2 or len(second) > 2 else ()
    for axis in batch:
        if not isinstance(axis, Fixed):
            site.atoms.prefer(axis)  # heads of attention
    for child, axis in zip(operands, (first[-2], second[-1]), strict=True):
        if child.op == "get_attr":
            _makes(site, axis)
    site.terms.append(Term(1.0, (*batch, first[-2], inner, second[-1])))
    return (*batch, *(() if one_row else (first[-2],)), *(() if one_column else (second[-1],)))


def attention(site: Site) -> Value:
    """softmax(query key^T) value: heads go together, and so do the widths of query and key."""
    query, key, value = (site.axes(name) for name in ("query", "key", "value"))
    if site.arguments.get("enable_gqa"):
        key, value = (_shared_among(site, axes, query[-3]) for axes in (key, value))
    batch = site.broadcast(query[:-2], key[:-2], value[:-2]) if len(query) > 2 else ()
    for axis in batch:
        if not isinstance(axis, Fixed):
            site.atoms.prefer(axis)
    width, length = site.tie(query[-1], key[-1]), site.tie(key[-2], value[-2])
    site.pin(length, f"{site.node.name} runs a softmax along it")
    if site.arguments.get("is_causal"):
        site.pin(query[-2], f"{site.node.name} counts along it which keys come before")
    mask = site.arguments.get("attn_mask")
    if mask is not None:
        site.broadcast(site.axes(mask), (*batch, query[-2], length))
    whole = len(width) + len(value[-1])
    site.terms += [Term(len(width) / whole, (*batch, width)), Term(len(value[-1]) / whole, (*batch, value[-1]))]
    return (*batch, query[-2], value[-1])


def _shared_among(site: Site, axes: Axes, heads: Axis) -> Axes:
    """Keys or values of which each head serves so many neighbouring ones of the query; one alone serves as many as there are."""
    shared = axes[-3]
    if len(shared) in (1, len(heads)):
        return axes
    if isinstance(shared, Fixed):
        site.pin(heads, f"{site.node.name} shares keys among heads")
        return (*axes[:-3], site.fixed(len(heads)), *axes[-2:])
    return (*axes[:-3], np.repeat(shared, len(heads) // len(shared)), *axes[-2:])


def embedding(site: Site) -> Value:
    """Rows are what the input chooses; columns are channels."""
    table, indices = site.axes("weight"), site.axes("indices")
    site.pin(table[0], f"{site.node.name} is looked up by any number of the input")
    _makes(site, table[1])
    return (*indices, table[1])


def tensordot(site: Site) -> Value:
    """Summed over pairs of axes; the others stand side by side."""
    operands = (site.axes("self"), site.axes("other"))
    summed = [[dim % len(axes) for dim in site.arguments[name]] for name, axes in zip(("dims_self", "dims_other"), operands, strict=True)]
    inner = [site.tie(operands[0][first], operands[1][second]) for first, second in zip(*summed, strict=True)]
    kept = [[axis for position, axis in enumerate(axes) if position not in gone] for axes, gone in zip(operands, summed, strict=True)]
    for name, axes in zip(("self", "other"), kept, strict=True):
        if site.arguments[name].op == "get_attr":
            for axis in axes:
                _makes(site, axis)
    result = (*kept[0], *kept[1])
    site.terms.append(Term(1.0, (*inner, *result)))
    return result


def outer(site: Site) -> Value:
    """Each of a vector times each of another."""
    (first,), (second,) = site.axes("self"), site.axes("vec2")
    return (first, second)


def bilinear(site: Site) -> Value:
    """(..., first) times (out, first, second) times (..., second)."""
    first, second, weight = site.axes("input1"), site.axes("input2"), site.axes("weight")
    columns = (site.tie(first[-1], weight[1]), site.tie(second[-1], weight[2]))
    rows = site.tie(weight[0], *(site.axes("bias") if site.arguments.get("bias") is not None else ()))
    _makes(site, rows)
    result = (*site.broadcast(first[:-1], second[:-1]), rows)
    site.terms.append(Term(1.0, (*result, *columns)))
    return result


def similarity(site: Site) -> Value:
    """``cosine_similarity``, ``pairwise_distance``: two vectors compared; channels that leave are not counted any more."""
    axes = list(site.broadcast(site.axes("x1"), site.axes("x2")))
    dim = site.arguments.get("dim", -1) % len(axes)
    axes[dim : dim + 1] = [ONE] if site.arguments.get("keepdim") else []
    return tuple(axes)


def distances(site: Site) -> Value:
    """``cdist``: each row of one compared with each of another."""
    first, second = site.axes("x1"), site.axes("x2")
    site.tie(first[-1], second[-1])
    return (*site.broadcast(first[:-2], second[:-2]), first[-2], second[-2])


def einsum(site: Site) -> Value:
    """Each letter is one axis; a row of dots is as many as there are besides."""
    equation, operands = site.arguments["equation"].replace(" ", ""), [site.axes(node) for node in site.arguments["tensors"]]
    terms, result = _spelled(equation, [len(axes) for axes in operands])
    letters: dict[str, list[Axis]] = {}
    if any(len(set(term)) != len(term) for term in terms):
        site.refuse([axis for axes in operands for axis in axes], f"{site.node.name} has no rule for cutting (einsum {equation})")
        return tuple(site.fixed(size) for size in site.shape())
    for term, axes in zip(terms, operands, strict=True):
        for letter, axis in zip(term, axes, strict=True):
            letters.setdefault(letter, []).append(axis)
    tied = {letter: _lettered(site, axes) for letter, axes in letters.items()}
    for letter in result:
        if all(letter in term for term in terms) and not isinstance(tied[letter], Fixed):
            site.atoms.prefer(tied[letter])  # type: ignore[arg-type]
    site.terms.append(Term(1.0, tuple(tied.values())))
    for node, term in zip(site.arguments["tensors"], terms, strict=True):
        if node.op == "get_attr":
            for letter in term:
                if letter in result:
                    _makes(site, tied[letter])
    return tuple(tied[letter] for letter in result)


def _spelled(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Letters of each operand's axes and of the result's, digits in the place of dots, which are lined up at their ends.

    >>> _spelled("...i,io", [3, 2])
    (['01i', 'io'], '01o')
    """
    given, arrow, result = equation.partition("->")
    counts = [rank - len(term) + 3 for term, rank in zip(given.split(","), ranks, strict=True) if "..." in term]
    dots = "0123456789"[: max(counts, default=0)]
    terms = [term.replace("...", dots[len(dots) + len(term) - 3 - rank :]) for term, rank in zip(given.split(","), ranks, strict=True)]
    if not arrow:  # what stands once remains, in the order of the alphabet
        result = dots + "".join(sorted(letter for letter in set(given) - set(".,") if given.count(letter) == 1))
    return terms, result.replace("...", dots)


def _lettered(site: Site, axes: Sequence[Axis]) -> Axis:
    wide = [axis for axis in axes if len(axis) > 1]
    return site.tie(*wide) if wide else ONE
