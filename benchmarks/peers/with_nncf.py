"""NETWORK IMAGES FLOAT INT8: nncf.quantize on torch.onnx.export's file."""

import sys
import time

import nncf
import numpy as np
import onnx


def main(name: str, images: str, plain: str, quantized: str) -> None:
    start = time.perf_counter()
    data = nncf.Dataset(list(np.load(images)), lambda image: {"x": image[None]})
    onnx.save(nncf.quantize(onnx.load(plain), data, subset_size=len(np.load(images))), quantized)
    print("quantized", round(time.perf_counter() - start, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
