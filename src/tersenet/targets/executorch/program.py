"""Reading a .pte file without a runtime: what it runs, and whether it is whole.

The native loader trusts offsets that it finds in a file, and a broken one can end the process; so a file is read here
first, every offset checked. Field numbers are those of executorch's ``schema/program.fbs`` and of XNNPACK's
``serialization/runtime_schema.fbs`` (flatbuffers: fields are never renumbered).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tersenet.errors import ModelError

# XNodeUnion, from 1.
# fmt: off
XNNPACK_OPERATORS = (
    "Add", "FullyConnected", "Softmax", "Sigmoid", "StaticTranspose", "Clamp", "Conv2d", "Div", "StaticResizeBilinear2D",
    "StaticConstantPad", "AvgPooling2d", "Minimum", "DepthwiseConv2d", "MaxPooling2d", "Multiply", "Subtract", "Floor", "Convert",
    "GlobalAvgPooling2d", "StaticReshape", "ArgMaxPooling2d", "SquareRoot", "Ceiling", "Hardswish", "LeakyReLU", "Maximum", "Negate",
    "Square", "ELU", "Abs", "PReLU", "Concatenate2", "Concatenate3", "Concatenate4", "StaticSlice", "ScaledDotProductAttention",
    "BatchMatrixMultiply", "Concatenate5", "ConvTranspose2d", "ReciprocalSquareRoot", "Log", "Gelu", "Tanh", "Exp", "Sin", "Copy", "Cos",
)
# fmt: on
# ScalarType -> numpy's name.
DTYPES = {0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool"}
# InstructionArguments and KernelTypes: the numbers of the members that matter here.
KERNEL_CALL, DELEGATE_CALL, TENSOR = 1, 2, 5


@dataclass(frozen=True)
class Program:
    """What a file holds.

    Args:
        kernels: operators that run outside of delegates, in the order of the calls.
        delegates: operators inside each delegate, in order.
        inputs, outputs: shape and numpy's dtype of each tensor.
    """

    kernels: tuple[str, ...]
    delegates: tuple[tuple[str, ...], ...]
    inputs: tuple[tuple[tuple[int, ...], str], ...]
    outputs: tuple[tuple[tuple[int, ...], str], ...]

    @property
    def delegated(self) -> int:
        return sum(len(each) for each in self.delegates)


def read_program(data: bytes) -> Program:
    """Take a program apart.

    Raises:
        ModelError: it is no .pte file, or one that is cut off or damaged.
    """
    if data[4:6] != b"ET":
        raise ModelError("not an ExecuTorch program: the file has no ET12 mark.")
    try:
        return _read(data)
    except (struct.error, IndexError, UnicodeDecodeError, KeyError) as error:
        raise ModelError("a damaged ExecuTorch program: an offset in it leads nowhere; export it again or copy it anew.") from error


class _Table:
    """A table of a flatbuffer; slots by number."""

    def __init__(self, data: bytes, position: int) -> None:
        if not 0 <= position <= len(data) - 4:
            raise IndexError(position)
        self.data = data
        self.position = position
        self.fields = position - struct.unpack_from("<i", data, position)[0]
        self.size = self._unsigned(self.fields, "<H")

    def _unsigned(self, position: int, form: str) -> int:
        if position < 0:
            raise IndexError(position)
        return int(struct.unpack_from(form, self.data, position)[0])

    def place(self, slot: int) -> int:
        """Where a field lies; 0 where it is absent."""
        entry = 4 + 2 * slot
        offset = self._unsigned(self.fields + entry, "<H") if entry < self.size else 0
        return self.position + offset if offset else 0

    def number(self, slot: int, form: str = "<i", absent: int = 0) -> int:
        place = self.place(slot)
        return self._unsigned(place, form) if place else absent

    def _behind(self, place: int) -> int:
        return place + self._unsigned(place, "<I")

    def table(self, slot: int) -> _Table | None:
        place = self.place(slot)
        return _Table(self.data, self._behind(place)) if place else None

    def vector(self, slot: int) -> tuple[int, int]:
        """Position of the first element and how many there are."""
        place = self.place(slot)
        if not place:
            return 0, 0
        start = self._behind(place)
        count = self._unsigned(start, "<I")
        if start + 4 + count > len(self.data):
            raise IndexError(start)
        return start + 4, count

    def tables(self, slot: int) -> list[_Table]:
        start, count = self.vector(slot)
        return [_Table(self.data, self._behind(start + 4 * index)) for index in range(count)]

    def numbers(self, slot: int) -> tuple[int, ...]:
        start, count = self.vector(slot)
        return struct.unpack_from(f"<{count}i", self.data, start) if count else ()

    def text(self, slot: int) -> str:
        start, count = self.vector(slot)
        return self.data[start : start + count].decode()


def _root(data: bytes) -> _Table:
    return _Table(data, struct.unpack_from("<I", data, 0)[0])


def _read(data: bytes) -> Program:
    root = _root(data)
    base = _check_length(data)
    segments = [(base + part.number(0, "<Q"), part.number(1, "<Q")) for part in root.tables(4)]
    for start, size in segments:
        if start + size > len(data):
            raise IndexError(start)
    plan = root.tables(1)[0]
    values = plan.tables(2)
    names = [".".join(part for part in (operator.text(0), operator.text(1)) if part) for operator in plan.tables(6)]
    blobs = [_blob(delegate, root, data, segments) for delegate in plan.tables(7)]
    kernels, delegates = [], []
    for call in (instruction for chain in plan.tables(5) for instruction in chain.tables(2)):
        arguments = call.table(1)
        if arguments is None:
            raise IndexError(call.position)
        if call.number(0, "<B") == KERNEL_CALL:
            kernels.append(names[arguments.number(0)])
        elif call.number(0, "<B") == DELEGATE_CALL:
            delegates.append(_xnnpack_operators(blobs[arguments.number(0)]))
    ports = [tuple(_tensor(values[index]) for index in plan.numbers(slot)) for slot in (3, 4)]
    return Program(tuple(kernels), tuple(delegates), ports[0], ports[1])


def _check_length(data: bytes) -> int:
    """Where segments start; the header behind the mark says how long program and segments are."""
    if data[8:12] != b"eh00":
        return 0
    _, program_size, base = struct.unpack_from("<IQQ", data, 12)
    if program_size > len(data) or base > len(data):
        raise IndexError(base)
    if struct.unpack_from("<I", data, 12)[0] >= 32 and base + struct.unpack_from("<Q", data, 32)[0] > len(data):
        raise IndexError(base)
    return int(base)


def _blob(delegate: _Table, root: _Table, data: bytes, segments: list[tuple[int, int]]) -> bytes:
    reference = delegate.table(1)
    if delegate.text(0) != "XnnpackBackend" or reference is None:
        return b""
    index = reference.number(1, "<I")
    if reference.number(0, "<b"):  # a segment behind the program
        start, count = segments[index]
        return data[start : start + count]
    inline = root.tables(3)[index]
    start, count = inline.vector(0)
    return data[start : start + count]


def _xnnpack_operators(blob: bytes) -> tuple[str, ...]:
    """The operators of XNNPACK's own graph; a delegate that is not XNNPACK's hides them."""
    if not blob:
        return ()
    if blob[4:8] == b"XH00":
        start, size = struct.unpack_from("<II", blob, 10)
        blob = blob[start : start + size]
    graph = _root(blob)
    for part in (*graph.tables(1), *graph.tables(2)):
        if part.table(1) is None:
            raise IndexError(part.position)
    kinds = [node.number(0, "<B") for node in graph.tables(1)]
    if not all(1 <= kind <= len(XNNPACK_OPERATORS) for kind in kinds):
        raise IndexError(max(kinds))
    return tuple(XNNPACK_OPERATORS[kind - 1] for kind in kinds)


def _tensor(value: _Table) -> tuple[tuple[int, ...], str]:
    tensor = value.table(1)
    if value.number(0, "<B") != TENSOR or tensor is None:
        raise ModelError("this program takes or returns something else than tensors, which cannot be fed here.")
    return tensor.numbers(2), DTYPES[tensor.number(0, "<b")]
