"""What `tersenet compress` is given where its time is taken: MobileNetV2-1.0 and 256 images."""

import sys
from pathlib import Path

import numpy as np
from torch import Tensor, nn

import tersenet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from setting import images, networks

NAME, EVALUATION = "mobilenet_v2", 16


def network() -> tuple[nn.Module, tuple[Tensor]]:
    """The network and its example input."""
    return networks.load(NAME), (networks.example(NAME),)


def data() -> tersenet.Data:
    """256 images for calibration, and a few others that are judged: the float network is their judge."""
    samples = np.load(images.kept(NAME, 256 + EVALUATION))
    return tersenet.Data.from_arrays(calibration=samples[:256], evaluation=samples[256:])
