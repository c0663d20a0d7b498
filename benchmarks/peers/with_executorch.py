"""NETWORK IMAGES FLOAT INT8: XNNPACKQuantizer and the XNNPACK partitioner, as ExecuTorch's documentation says."""

import sys
import time

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import to_edge_transform_and_lower
from setting import networks
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def write(module: torch.nn.Module, example: tuple[torch.Tensor], path: str) -> None:
    lowered = to_edge_transform_and_lower(torch.export.export(module, example), partitioner=[XnnpackPartitioner()])
    with open(path, "wb") as file:
        file.write(lowered.to_executorch().buffer)


def main(name: str, images: str, plain: str, quantized: str) -> None:
    start = time.perf_counter()
    network, example = networks.load(name), (networks.example(name),)
    write(network, example, plain)
    print("exported", round(time.perf_counter() - start, 2))
    start = time.perf_counter()
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(network, example).module(), quantizer)
    with torch.no_grad():
        for image in np.load(images):
            prepared(torch.from_numpy(image[None]))
    write(convert_pt2e(prepared), example, quantized)
    print("quantized", round(time.perf_counter() - start, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
