"""Reading .pte files without their runtime."""

import re
from pathlib import Path

import pytest

from tersenet.errors import ModelError
from tersenet.targets.executorch.program import DTYPES, XNNPACK_OPERATORS, read_program


def test_names_are_those_of_the_schema():
    executorch = pytest.importorskip("executorch")
    folder = Path(next(iter(executorch.__path__)))
    text = (folder / "backends/xnnpack/serialization/runtime_schema.fbs").read_text()
    union = re.search(r"union XNodeUnion \{(.*?)\}", text, re.DOTALL).group(1)
    assert tuple(re.findall(r"^\s*XNN(\w+)", union, re.MULTILINE)) == XNNPACK_OPERATORS


def test_types_are_those_of_the_schema():
    executorch = pytest.importorskip("executorch")
    folder = Path(next(iter(executorch.__path__)))
    text = (folder / "schema/scalar_type.fbs").read_text()
    numbers = {name: int(number) for name, number in re.findall(r"^\s*(\w+) = (\d+),", text, re.MULTILINE)}
    named = {
        "BYTE": "uint8",
        "CHAR": "int8",
        "SHORT": "int16",
        "INT": "int32",
        "LONG": "int64",
        "HALF": "float16",
        "FLOAT": "float32",
        "DOUBLE": "float64",
    }
    named["BOOL"] = "bool"
    assert {numbers[name]: dtype for name, dtype in named.items()} == DTYPES


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x00" * 64])
def test_other_files_are_refused(data):
    with pytest.raises(ModelError, match="not an ExecuTorch program"):
        read_program(data)


def test_damage_is_told_from_other_files():
    with pytest.raises(ModelError, match="damaged"):
        read_program(b"\xff\xff\xff\x7fET12" + bytes(64))
