"""NETWORK IMAGES FLOAT INT8: torch.onnx.export, then quantize_static as its documentation says (QDQ, per channel, uint8 activations)."""

import os
import sys
import time

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from setting import networks


class Reader(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.samples = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.samples, None)
        return None if image is None else {"x": image[None]}


def main(name: str, images: str, plain: str, quantized: str) -> None:
    start = time.perf_counter()
    sample = networks.example(name).repeat(2, 1, 1, 1)  # a batch of 1 would be taken for a constant
    program = torch.onnx.export(
        networks.load(name), (sample,), input_names=["x"], dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False
    )
    program.save(plain, external_data=False)
    print("exported", round(time.perf_counter() - start, 2))
    start = time.perf_counter()
    prepared = quantized + ".prepared"
    quant_pre_process(plain, prepared)
    quantize_static(
        prepared,
        quantized,
        Reader(np.load(images)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    os.remove(prepared)
    print("quantized", round(time.perf_counter() - start, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
