"""The large tensors of a file left where they are: a walk over the protocol buffer that cuts their bytes out before it is parsed.

Parsing copies every byte, and reading a tensor copies it again; a file of 100 MB would take three times its size.
Format: protobuf.dev, "Encoding"; field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tersenet.errors import ModelError

MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, TENSOR_RAW = 7, 1, 5, 9
NODE_OUTPUT, NODE_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN, ATTRIBUTE_TENSOR = 2, 4, 5, 7, 5
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
SMALL = 1024  # bytes that are not worth cutting out
TORN = "it is not an ONNX file, or is torn: its bytes do not hold together"


@dataclass(frozen=True)
class Cut:
    """Bytes of tensors that were cut out.

    Args:
        initializers: in the order of ``graph.initializer``; None for one left in.
        constants: of Constant nodes, by the name of the node's output.
    """

    initializers: list[memoryview | None] = field(default_factory=list)
    constants: dict[str, memoryview] = field(default_factory=dict)

    def views(self) -> Iterator[memoryview]:
        yield from (view for view in (*self.initializers, *self.constants.values()) if view is not None)


def without_tensors(data: memoryview) -> tuple[bytes, Cut]:
    """The file without the bytes of the large tensors of its outermost graph, and these.

    Raises:
        ModelError: the bytes are no protocol buffer.
    """
    rest: list[bytes] = []
    cut = Cut()
    for number, whole, content in _fields(data):
        rest.append(_tagged(number, _graph(content, cut)) if number == MODEL_GRAPH and content is not None else bytes(whole))
    return b"".join(rest), cut


def _graph(data: memoryview, cut: Cut) -> bytes:
    rest: list[bytes] = []
    for number, whole, content in _fields(data):
        if number == GRAPH_INITIALIZER and content is not None:
            left, raw = _tensor(content)
            cut.initializers.append(raw)
            whole = memoryview(_tagged(number, left))
        elif number == GRAPH_NODE and content is not None and len(content) >= SMALL:
            whole = memoryview(_tagged(number, _node(content, cut)))
        rest.append(bytes(whole))
    return b"".join(rest)


def _node(data: memoryview, cut: Cut) -> bytes:
    """A Constant without its tensor's bytes; others are left whole: one that calls a function of the file hands its tensor on to that."""
    fields = list(_fields(data))
    told = {number: bytes(content) for number, _, content in fields if number in (NODE_TYPE, NODE_DOMAIN) and content is not None}
    if told.get(NODE_TYPE) != b"Constant" or told.get(NODE_DOMAIN, b"") not in (b"", b"ai.onnx"):
        return bytes(data)
    outputs = [bytes(content) for number, _, content in fields if number == NODE_OUTPUT and content is not None]
    attributes = [content for number, _, content in fields if number == NODE_ATTRIBUTE and content is not None]
    if len(outputs) != 1 or len(attributes) != 1:
        return bytes(data)
    inside: list[bytes] = []
    found: list[memoryview] = []
    for number, whole, content in _fields(attributes[0]):
        left, raw = _tensor(content) if number == ATTRIBUTE_TENSOR and content is not None else (b"", None)
        found += [] if raw is None else [raw]
        inside.append(bytes(whole) if raw is None else _tagged(number, left))
    if len(found) != 1:
        return bytes(data)
    cut.constants[outputs[0].decode("utf-8", "replace")] = found[0]
    return b"".join(_tagged(number, b"".join(inside)) if number == NODE_ATTRIBUTE else bytes(whole) for number, whole, _ in fields)


def _tensor(data: memoryview) -> tuple[bytes, memoryview | None]:
    """A tensor without its bytes, and these; None where they are few."""
    if len(data) < SMALL:
        return bytes(data), None
    rest: list[bytes] = []
    raw: memoryview | None = None
    for number, whole, content in _fields(data):
        if number == TENSOR_RAW and content is not None:
            raw = content
        else:
            rest.append(bytes(whole))
    return b"".join(rest), raw


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, memoryview | None]]:
    """``(number, all bytes of the field, its content where it is a string of bytes)`` of each field of a message."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        content = None
        if tag & 7 == _VARINT:
            _, position = _varint(data, position)
        elif tag & 7 == _BYTES:
            size, position = _varint(data, position)
            content = data[position : position + size]
            position += size
        elif tag & 7 in (_EIGHT, _FOUR):
            position += 8 if tag & 7 == _EIGHT else 4
        else:
            raise ModelError(TORN)
        if position > len(data):
            raise ModelError(TORN)
        yield tag >> 3, data[start:position], content


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
    raise ModelError(TORN)


def _tagged(field: int, content: bytes) -> bytes:
    return _encoded(field << 3 | _BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    return bytes([*written, value])
