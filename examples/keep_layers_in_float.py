"""Look at what each layer loses; keep the weakest in float, or give every layer wider integers; compare what it buys and what it costs.

python examples/keep_layers_in_float.py [FOLDER]
"""

import sys
from pathlib import Path

from net import digits

import tersenet as tn
from tersenet.report.text import show


def main(folder: str = "runs/keep-layers-in-float") -> None:
    model = tn.load(digits(), name="digits")
    plain = tn.compress(model, "digits", to="litert", out=Path(folder) / "all-int8")

    print("layer      kind                    SQNR, dB   range used")
    for layer in plain.records[0].layers:
        print(f"{layer.name:10} {layer.op:22} {layer.sqnr_db:9.1f} {100 * layer.used:9.0f} %")
    measured = [layer for layer in plain.records[0].layers if layer.sqnr_db is not None and layer.op != "input"]
    weakest = min(measured, key=lambda layer: layer.sqnr_db)
    print(f"the weakest is {weakest.name}: it stays in float, and ranges of the others are chosen by least squared error\n")

    mixed = tn.Quantize(ranges="mse", overrides=(tn.Override(layers=weakest.name, keep_float=True),))
    wide = tn.Quantize(activations="int16")  # of the whole network, 256 times finer; LiteRT has such kernels, XNNPACK has none: the file is slower
    reports = [plain]
    for name, step in (("mixed", mixed), ("int16", wide)):
        reports.append(tn.compress(model, "digits", to="litert", recipe=tn.Recipe([step]), out=Path(folder) / name))
    for report in reports:
        show(report)
    for operator in reports[1].records[0].float_ops:
        print(f"in float: {operator.name} ({operator.op}): {operator.why}")
    for name, report in zip(("int8", "mixed", "int16"), reports, strict=True):
        record = report.records[0]
        print(f"{name:6} {record.bytes:6} bytes, SQNR of the outputs {record.layers[-1].sqnr_db:.1f} dB")


if __name__ == "__main__":
    main(*sys.argv[1:2])
