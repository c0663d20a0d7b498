"""A file for microcontrollers as C source: the bytes, how much memory they need, and which operators to register."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tersenet.targets.litert.capabilities import MICRO_OPERATORS

BYTES_A_LINE = 16


def write_sources(path: Path, arena: int, operators: Sequence[str]) -> tuple[Path, Path]:
    """Write ``NAME.c`` and ``NAME.h``, for compilers of C and of C++, beside ``NAME.tflite``.

    Args:
        path: the file whose bytes they hold.
        arena: bytes that the interpreter needs.
        operators: codes of the operators that the file has.

    Returns:
        the two paths.
    """
    name = re.sub(r"\W", "_", path.stem)
    name = f"model_{name}" if name[:1].isdigit() else name
    data = path.read_bytes()
    source, header = path.with_suffix(".c"), path.with_suffix(".h")
    header.write_text(_header(name, len(data), arena, operators))
    source.write_text(_source(name, header.name, data))
    return source, header


def _header(name: str, size: int, arena: int, operators: Sequence[str]) -> str:
    registered = "\n".join(f"//   resolver.{MICRO_OPERATORS[code]}();" for code in operators)
    guard = f"{name.upper()}_H_"
    return f"""#ifndef {guard}
#define {guard}

// A network for the TensorFlow Lite Micro interpreter. Register its operators:
//
//   tflite::MicroMutableOpResolver<{len(operators)}> resolver;
{registered}
//
//   alignas(16) static unsigned char arena[{name}_arena_size];
//   tflite::MicroInterpreter interpreter(tflite::GetModel({name}), resolver, arena, {name}_arena_size);

#ifdef __cplusplus
extern "C" {{
#endif
extern const unsigned char {name}[];
#ifdef __cplusplus
}}
#endif

enum {{
  // Bytes of the network.
  {name}_size = {size},
  // Bytes that the interpreter needs, measured with pointers of 64 bits; a microcontroller needs no more.
  {name}_arena_size = {-(-arena // 16) * 16},
  {name}_operators = {len(operators)}
}};

#endif  // {guard}
"""


def _source(name: str, header: str, data: bytes) -> str:
    lines = [", ".join(f"0x{byte:02x}" for byte in data[start : start + BYTES_A_LINE]) for start in range(0, len(data), BYTES_A_LINE)]
    body = ",\n    ".join(lines)
    return f"""#include "{header}"

#if defined(__cplusplus)
#define ALIGNED alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define ALIGNED _Alignas(16)
#else
#define ALIGNED __attribute__((aligned(16)))
#endif

ALIGNED const unsigned char {name}[] = {{
    {body}}};
"""
