"""Look at what each layer loses, keep the weakest in float, give another one wider integers, and compare.

python examples/keep_layers_in_float.py [FOLDER]
"""

import sys
from pathlib import Path

from net import digits

import tersenet as tn
from tersenet.report.text import show


def main(folder: str = "runs/keep-layers-in-float") -> None:
    model = tn.load(digits(), name="digits")
    plain = tn.compress(model, "digits", to="onnxruntime", out=Path(folder) / "all-int8")

    print("layer      kind                    SQNR, dB   range used")
    for layer in plain.records[0].layers:
        print(f"{layer.name:10} {layer.op:22} {layer.sqnr_db:9.1f} {100 * layer.used:9.0f} %")
    measured = [layer for layer in plain.records[0].layers if layer.sqnr_db is not None and layer.op != "input"]
    weakest = min(measured, key=lambda layer: layer.sqnr_db)
    print(f"the weakest is {weakest.name}: it stays in float, and ranges of the others are chosen by least squared error\n")

    recipe = tn.Recipe([tn.Quantize(ranges="mse", overrides=(tn.Override(layers=weakest.name, keep_float=True),))])
    mixed = tn.compress(model, "digits", to="onnxruntime", recipe=recipe, out=Path(folder) / "mixed")
    for report in (plain, mixed):
        show(report)
    for operator in mixed.records[0].float_ops:
        print(f"in float: {operator.name} ({operator.op}): {operator.why}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
