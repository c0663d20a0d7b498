"""Networks from ONNX files compute what onnxruntime computes from the same file, with an open batch, readable names, and in training mode."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tersenet
from onnx_networks import NETWORKS, exported, reference, seeded
from photographs import photographs
from tersenet.errors import ModelError
from tersenet.testing.frontend import check_frontend

EVALUATED = {"training": "an .onnx file is of a network as it is evaluated"}


def in_pairs(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """One sample as a file takes it that runs two at once."""
    return lambda array: run(np.resize(array, (2, *array.shape[1:])))[: len(array)]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_torch_exports_with_an_open_batch(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, example = NETWORKS[name]
    path = exported(tmp_path, seeded(make), example, dynamo=dynamo, open_batch=True)
    run = reference(path)
    if (name, dynamo) == ("recurrent", True):  # this exporter writes the example's batch into states, and calls it open
        example, run = example[:2], in_pairs(run)
    model = check_frontend(tersenet.load, path, run, [[example]], excused=EVALUATED)
    assert model.format == "onnx" and not model.fixed_batch and [spec.name for spec in model.inputs] == ["x"]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_one_that_is_written_into_the_file_is_opened(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, example = NETWORKS[name]
    path = exported(tmp_path, seeded(make), example, dynamo=dynamo, open_batch=False)
    model, run = tersenet.load(path), reference(path)
    assert not model.fixed_batch, model.fixed_batch
    wanted = np.concatenate([run(example[place : place + 1]) for place in range(len(example))])
    np.testing.assert_allclose(model(example), wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_mobilenet_from_a_published_file(tersenet_data: Path) -> None:
    path = tersenet_data / "coral_mobilenet_v1" / "mobilenet_v1_0.25_128_dequant.onnx"
    real = photographs(tersenet_data, 128).transpose(0, 3, 1, 2) / np.float32(127.5) - 1
    random = np.random.default_rng(0).standard_normal((2, 3, 128, 128)).astype(np.float32)
    check_frontend(tersenet.load, path, reference(path), [[random], [real]], excused=EVALUATED)


@pytest.mark.slow
def test_squeezenet_from_a_published_file(tersenet_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "squeezenet.onnx"
    path.write_bytes(gzip.decompress((tersenet_data / "squeezenet" / "squeezenet_v1_0_decoded.onnx.gz").read_bytes()))
    random = np.random.default_rng(0).uniform(-120, 120, (2, 3, 227, 227)).astype(np.float32)
    real = photographs(tersenet_data, 227)[..., ::-1].transpose(0, 3, 1, 2) - np.array([104, 117, 123], np.float32)[:, None, None]
    check_frontend(tersenet.load, path, reference(path), [[random], [real]], excused=EVALUATED)


def test_a_detector_of_speech_whose_branches_the_sampling_rate_chooses(tersenet_data: Path) -> None:
    path, random = tersenet_data / "silero_vad" / "silero_vad.onnx", np.random.default_rng(0)
    sound, state = random.standard_normal((3, 576)).astype(np.float32) / 10, random.standard_normal((2, 3, 128)).astype(np.float32)
    with pytest.raises(ModelError, match=r"If_0 \(If\) branches on numbers in the data.*plain number"):
        tersenet.load(path, {"input": sound, "state": state})
    model = tersenet.load(path, {"input": sound, "state": state, "sr": 16000}, dynamic={"state": {1: "batch"}})
    assert [spec.shape for spec in model.inputs] == [(None, 576), (2, None, 128)]
    for got, wanted in zip(model(sound, state), reference(path)(sound, state, np.array(16000)), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
