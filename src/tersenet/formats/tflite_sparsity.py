"""Sparse constants of the LiteRT schema: only what is not zero is stored, and where it stands.

A constant is gone through axis by axis, outermost first; behind the axes of its shape come those of blocks, which axes may be cut into. A whole
axis has a size. Of a compressed one the file lists the places that hold something (``indices``), for all places of the axes before it one after the
other, and where each of these lists starts (``segments``): compressed sparse rows, as of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tersenet.errors import ModelError

# What an operator DENSIFY, its tensors and the tables that describe them take in the file, at most.
TABLES_BYTES = 250
BLOCKS = (2, 4, 8, 16)
LARGEST_BYTES = 2**31  # a file's own limit: a constant that could not stand in it unpacked is damaged
DENSE, COMPRESSED = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
VECTORS = {
    np.dtype(np.uint8): ("Uint8Vector", schema.SparseIndexVector.Uint8Vector),
    np.dtype(np.uint16): ("Uint16Vector", schema.SparseIndexVector.Uint16Vector),
    np.dtype(np.int32): ("Int32Vector", schema.SparseIndexVector.Int32Vector),
}
Level = int | tuple[np.ndarray, np.ndarray]  # size of a whole axis; segments and indices of a compressed one


@dataclass(frozen=True)
class Sparsity:
    """How a constant lies in a file.

    Args:
        order: axes, outermost first: those of the shape, then those inside blocks, which count on from its rank.
        compressed: for each of `order`, whether only places that hold something are stored.
        blocks: (axis, size) of the axes that are cut into blocks; outside of them an axis is so many times shorter.
    """

    order: tuple[int, ...]
    compressed: tuple[bool, ...]
    blocks: tuple[tuple[int, int], ...] = ()

    def sizes(self, shape: Sequence[int]) -> list[int]:
        """How many places each of `order` has."""
        cut = dict(self.blocks)
        whole = [size // cut.get(axis, 1) for axis, size in enumerate(shape)] + [size for _, size in self.blocks]
        return [whole[axis] for axis in self.order]

    def laid_out(self, data: np.ndarray) -> np.ndarray:
        """A view of a constant whose axes are those of `order`."""
        cut = dict(self.blocks)
        split: list[int] = []
        outer: list[int] = []
        inner: dict[int, int] = {}
        for axis, size in enumerate(data.shape):
            outer.append(len(split))
            if axis in cut:
                inner[axis] = len(split) + 1
            split += [size // cut[axis], cut[axis]] if axis in cut else [size]
        places = outer + [inner[axis] for axis, _ in self.blocks]
        return data.reshape(split).transpose([places[axis] for axis in self.order])


def smallest(data: np.ndarray, extra_bytes: int = 0) -> Sparsity | None:
    """The form in which a constant takes the fewest bytes: one compressed axis, by itself or around blocks along one axis.

    Args:
        extra_bytes: what else the file has to hold where it is not stored whole.

    Returns:
        None where it is smallest as it is.
    """
    found, size = None, data.nbytes
    for form, held in _forms(data):
        sizes = form.sizes(data.shape)
        pieces = math.prod(sizes[: data.ndim - 1])
        block = math.prod(size for _, size in form.blocks)
        indices, segments = _narrowest(sizes[data.ndim - 1] - 1), _narrowest(held)
        needed = TABLES_BYTES + extra_bytes + held * (block * data.itemsize + indices.itemsize) + (pieces + 1) * segments.itemsize
        if held and needed < size:  # a constant of no bytes would be taken for one that is computed
            found, size = form, needed
    return found


def _forms(data: np.ndarray) -> Iterator[tuple[Sparsity, int]]:
    """Every form that is tried, and how many places, or blocks, hold something."""
    rank = data.ndim
    cuts = [(axis, size) for axis in range(rank) for size in BLOCKS if data.shape[axis] % size == 0]
    for blocks in ((), *(((axis, size),) for axis, size in cuts)):
        extra = tuple(range(rank, rank + len(blocks)))
        order = (*range(rank), *extra)
        held = Sparsity(order, (), blocks).laid_out(data) != 0
        count = int(np.count_nonzero(held.any(axis=extra) if blocks else held))
        for axis in range(rank):
            outer = tuple(other for other in range(rank) if other != axis)
            yield Sparsity((*outer, axis, *extra), (*(False for _ in outer), True, *(False for _ in extra)), blocks), count


def _narrowest(largest: int) -> np.dtype:
    """The schema's narrowest integers that reach so far."""
    return np.dtype(np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32)


def packed(data: np.ndarray, sparsity: Sparsity) -> tuple[np.ndarray, list[Level]]:
    """The values that are stored, in the order in which they are, and how each axis is."""
    levels: list[Level] = []
    rows = sparsity.laid_out(data)[None]
    for compressed in sparsity.compressed:
        size, rest = rows.shape[1], rows.shape[2:]
        if not compressed:
            levels.append(size)
            rows = rows.reshape(len(rows) * size, *rest)
            continue
        held = (rows != 0).reshape(len(rows), size, math.prod(rest)).any(axis=2)
        segments, indices = np.append(0, np.cumsum(held.sum(axis=1))), np.nonzero(held)[1]
        levels.append((segments.astype(_narrowest(int(segments[-1]))), indices.astype(_narrowest(size - 1))))
        rows = rows[held]
    return np.ascontiguousarray(rows), levels


def unpacked(values: np.ndarray, levels: Sequence[Level], shape: Sequence[int], sparsity: Sparsity) -> np.ndarray:
    """The whole constant, zeros and all.

    Raises:
        ModelError: axes, lists and values do not fit one another.
    """
    sizes = sparsity.sizes(shape)
    _check_levels(len(values), levels, sizes)
    if math.prod(shape) * values.itemsize > LARGEST_BYTES:
        raise _damaged()
    places = np.zeros(1, np.int64)
    for level, size in zip(levels, sizes, strict=True):
        if isinstance(level, int):
            places = (places[:, None] * size + np.arange(size)).reshape(-1)
        else:
            starts = level[0].astype(np.int64)
            places = np.repeat(places, starts[1:] - starts[:-1]) * size + level[1]
    data = np.zeros(shape, values.dtype)
    laid = np.zeros(math.prod(shape), values.dtype)
    laid[places] = values
    sparsity.laid_out(data)[...] = laid.reshape(sizes)
    return data


def _check_levels(count: int, levels: Sequence[Level], sizes: Sequence[int]) -> None:
    """Hold lists to one another before anything is made of them."""
    reached = 1
    for level, size in zip(levels, sizes, strict=True):
        if isinstance(level, int):
            fits, reached = level == size, reached * size
        else:
            segments, indices = level[0].astype(np.int64), level[1]
            bounds = len(segments) == reached + 1 and segments[0] == 0 and segments[-1] == len(indices) and not (np.diff(segments) < 0).any()
            fits, reached = bounds and bool(((indices >= 0) & (indices < size)).all()), len(indices)
        if not fits:
            raise _damaged()
    if reached != count:
        raise _damaged()


def _damaged() -> ModelError:
    return ModelError("a sparse constant of the .tflite file does not hold together: its lists do not fit its shape; it is damaged, make it anew.")


def write_table(builder: Any, numbers: Callable[[Sequence[int], Any], int], sparsity: Sparsity, levels: Sequence[Level]) -> int:
    """The schema's table of a form.

    Args:
        numbers: writes a vector of integers of a type.
    """
    dimensions = [_dimension(builder, numbers, level) for level in levels]
    builder.StartVector(4, len(dimensions), 4)
    for offset in reversed(dimensions):
        builder.PrependUOffsetTRelative(offset)
    metadata = builder.EndVector()
    order, blocks = numbers(sparsity.order, np.int32), numbers([axis for axis, _ in sparsity.blocks], np.int32) if sparsity.blocks else 0
    schema.SparsityParametersStart(builder)
    schema.SparsityParametersAddTraversalOrder(builder, order)
    schema.SparsityParametersAddBlockMap(builder, blocks)
    schema.SparsityParametersAddDimMetadata(builder, metadata)
    return int(schema.SparsityParametersEnd(builder))


def _dimension(builder: Any, numbers: Callable[[Sequence[int], Any], int], level: Level) -> int:
    if isinstance(level, int):
        schema.DimensionMetadataStart(builder)
        schema.DimensionMetadataAddDenseSize(builder, level)
        return int(schema.DimensionMetadataEnd(builder))
    (segments, code), (indices, other) = (_list(builder, numbers, values) for values in level)
    schema.DimensionMetadataStart(builder)
    schema.DimensionMetadataAddFormat(builder, COMPRESSED)
    schema.DimensionMetadataAddArraySegmentsType(builder, code)
    schema.DimensionMetadataAddArraySegments(builder, segments)
    schema.DimensionMetadataAddArrayIndicesType(builder, other)
    schema.DimensionMetadataAddArrayIndices(builder, indices)
    return int(schema.DimensionMetadataEnd(builder))


def _list(builder: Any, numbers: Callable[[Any, Any], int], values: np.ndarray) -> tuple[int, int]:
    name, code = VECTORS[values.dtype]
    vector = numbers(values, values.dtype)
    getattr(schema, f"{name}Start")(builder)
    getattr(schema, f"{name}AddValues")(builder, vector)
    return int(getattr(schema, f"{name}End")(builder)), code


def read_table(table: Any, shape: Sequence[int]) -> tuple[Sparsity, list[Level]]:
    """A form, and how each axis of a constant lies.

    Raises:
        ModelError: it is the form of no constant of this shape.
    """
    held = schema.SparsityParametersT.InitFromObj(table)
    order, axes = (tuple(int(axis) for axis in _given(values)) for values in (held.traversalOrder, held.blockMap))
    metadata = _given(held.dimMetadata)
    rank = len(shape)
    if len(metadata) != len(order) or sorted(order) != list(range(rank + len(axes))) or set(order[:rank]) != set(range(rank)):
        raise _damaged()
    compressed = tuple(dimension.format == COMPRESSED for dimension in metadata)
    if order[rank:] != tuple(range(rank, rank + len(axes))) or len(set(axes)) != len(axes) or any(compressed[rank:]):
        raise ModelError("a sparse constant of the .tflite file has blocks in a form that is not read; store it whole.")
    sizes = [int(dimension.denseSize) for dimension in metadata[rank:]]
    if any(not 0 <= axis < rank or size < 1 or shape[axis] % size for axis, size in zip(axes, sizes, strict=True)):
        raise _damaged()
    return Sparsity(order, compressed, tuple(zip(axes, sizes, strict=True))), [_level(dimension) for dimension in metadata]


def _level(dimension: Any) -> Level:
    if dimension.format != COMPRESSED:
        return int(dimension.denseSize)
    if dimension.arraySegments is None or dimension.arrayIndices is None:
        raise _damaged()
    return np.asarray(_given(dimension.arraySegments.values)), np.asarray(_given(dimension.arrayIndices.values))


def _given(values: Any) -> Any:
    return () if values is None else values
