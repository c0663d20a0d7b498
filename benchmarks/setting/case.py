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
    return tersenet.Data.from_arrays(calibration=np.load(images.kept(NAME)), evaluation=images.calibration(NAME, 256 + EVALUATION)[256:])
