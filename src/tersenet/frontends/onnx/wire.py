"""The large tensors of a file left where they are: a walk over the protocol buffer that cuts their bytes out before it is parsed.

Parsing copies every byte, and reading a tensor copies it again; a file of 100 MB would take three times its size.
Format: protobuf.dev, "Encoding"; field numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

from tersenet.errors import ModelError

MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW = 7, 5, 9
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
SMALL = 1024  # bytes that are not worth cutting out
TORN = "it is not an ONNX file, or is torn: its bytes do not hold together"


def without_tensors(data: memoryview) -> tuple[bytes, list[memoryview | None]]:
    """The file without the bytes of its large initializers, and these, in the order of ``graph.initializer``; None for one left in.

    Raises:
        ModelError: the bytes are no protocol buffer.
    """
    rest: list[bytes] = []
    cut: list[memoryview | None] = []
    for field, whole, content in _fields(data):
        rest.append(_tagged(field, _graph(content, cut)) if field == MODEL_GRAPH and content is not None else bytes(whole))
    return b"".join(rest), cut


def _graph(data: memoryview, cut: list[memoryview | None]) -> bytes:
    rest: list[bytes] = []
    for field, whole, content in _fields(data):
        if field == GRAPH_INITIALIZER and content is not None:
            whole = memoryview(_tagged(field, _tensor(content, cut)))
        rest.append(bytes(whole))
    return b"".join(rest)


def _tensor(data: memoryview, cut: list[memoryview | None]) -> bytes:
    if len(data) < SMALL:
        cut.append(None)
        return bytes(data)
    rest: list[bytes] = []
    raw: memoryview | None = None
    for field, whole, content in _fields(data):
        if field == TENSOR_RAW and content is not None:
            raw = content
        else:
            rest.append(bytes(whole))
    cut.append(raw)
    return b"".join(rest)


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
