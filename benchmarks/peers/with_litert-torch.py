"""NETWORK IMAGES FLOAT INT8: litert_torch.convert, and its PT2E quantizer."""

import sys
import time

import litert_torch
import numpy as np
import torch
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig
from setting import networks
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def main(name: str, images: str, plain: str, quantized: str) -> None:
    start = time.perf_counter()
    network, example = networks.load(name), (networks.example(name),)
    litert_torch.convert(network, example).export(plain)
    print("exported", round(time.perf_counter() - start, 2))
    start = time.perf_counter()
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False))
    prepared = prepare_pt2e(torch.export.export(network, example).module(), quantizer)
    with torch.no_grad():
        for image in np.load(images):
            prepared(torch.from_numpy(image[None]))
    converted = convert_pt2e(prepared, fold_quantize=False)
    litert_torch.convert(converted, example, quant_config=QuantConfig(pt2e_quantizer=quantizer)).export(quantized)
    print("quantized", round(time.perf_counter() - start, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
