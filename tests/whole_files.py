"""A small file of every format that is read, for what damages it: the tests here, and the script of the benchmarks."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tersenet


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(2, 5)).eval()


EXAMPLE = (torch.zeros(2, 3, 4, 4),)


def pt2(folder: Path) -> Path:
    program = torch.export.export(network(), EXAMPLE, dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "whole.pt2")
    return folder / "whole.pt2"


def exported(target: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = tersenet.Data.from_arrays(evaluation=np.random.default_rng(0).random((8, 3, 4, 4), np.float32))
        tersenet.compress(tersenet.load(network(), EXAMPLE), data, recipe=tersenet.Recipe([]), to=target, out=folder / target)
        return shutil.copy(folder / target / "artifacts" / target / f"model{Path(name).suffix}", folder / name)

    return make


def keras(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras as framework

        framework.utils.set_random_seed(0)
        layers = framework.layers
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Keras about numpy, and about .h5
            framework.Sequential([layers.Input((4, 4, 3)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]).save(folder / name)
        return folder / name

    return make


def transformers(folder: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "vocab_size": 8}
    BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=8)).save_pretrained(folder / "bert")
    return folder / "bert"


# What makes a file beside what reads it.
NEEDS = {
    "onnx": ("onnxruntime",),
    "tflite": ("ai_edge_litert",),
    "keras": ("keras",),
    "h5": ("keras", "h5py"),
    "transformers": ("transformers",),
}
FORMATS: dict[str, Callable[[Path], Path]] = {
    "onnx": exported("onnxruntime", "whole.onnx"),
    "tflite": exported("litert", "whole.tflite"),
    "pt2": pt2,
    "keras": keras("whole.keras"),
    "h5": keras("whole.h5"),
    "transformers": transformers,
}
