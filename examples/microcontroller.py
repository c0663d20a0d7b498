"""A file for a microcontroller: integers alone, an arena budget, C source to compile in.

python examples/microcontroller.py [FOLDER]
"""

import sys
from pathlib import Path

from net import digits

import tersenet as tn
from tersenet.report.text import show


def main(folder: str = "runs/microcontroller") -> None:
    budget = tn.Budget(max_drop=1.0, max_bytes="32kB", max_memory="24kB")
    report = tn.compress(digits(), "digits", to="litert-micro", budget=budget, out=folder)
    show(report)
    for record in report.records:
        print(f"arena: {record.peak_memory_bytes:,} bytes; every limit met: {record.met}")

    artifact = report.artifacts["litert-micro"]
    for port in (*artifact.inputs, *artifact.outputs):
        print(f"{port.name}: {port.dtype} {port.shape}, real = {port.scale:.6g} * (integer - {port.zero_point})")
    header = Path(folder) / "artifacts" / "litert-micro" / "model.h"
    print(header.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
