"""FOLDER NAME...: litert-torch's float file of each operator network, and its inputs; run in an environment where litert-torch is installed."""

import sys
from pathlib import Path

import litert_torch
import numpy as np
import torch

from operator_networks import OF_IMAGES, WEIGHTED, image_networks

NETWORKS = {**WEIGHTED, **image_networks(OF_IMAGES)}


def main(folder: Path, names: list[str]) -> None:
    for name in names:
        make, shapes = NETWORKS[name]
        torch.manual_seed(0)
        network = make().eval()
        generator = torch.Generator().manual_seed(1)
        arguments = tuple(torch.randn(shape, generator=generator) for shape in shapes)
        litert_torch.convert(network, arguments).export(str(folder / f"{name}.tflite"))
        np.savez(folder / f"{name}.npz", *(argument.numpy() for argument in arguments))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
