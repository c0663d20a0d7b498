"""Our float files beside those of litert-torch, Google's own converter, of the same networks: both run by our runner on the same arrays.

litert-torch does not install beside tersenet: it runs in an environment of its own, the folder that TERSENET_LITERT_TORCH names, or the one
that `benchmarks/peers/install litert-torch` makes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from operator_networks import OF_IMAGES, WEIGHTED, image_networks
from tersenet.frontends.table import load
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("ai_edge_litert")
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
ENVIRONMENT = Path(os.environ.get("TERSENET_LITERT_TORCH") or HERE.parents[1] / ".bench" / "litert-torch")
SECONDS = 900
NETWORKS = {**WEIGHTED, **image_networks(OF_IMAGES)}
COMPARED = """attention, average pool, average pool padded, batch norm alone, bilinear, causal attention, channel shuffle, channels last inside,
conv dilated, conv grouped, conv relu6, conv same, conv strided odd, conv1d chain, conv3d, depthwise multiplied, depthwise strided, einsum, elu,
flatten, gelu, group norm, hardswish, layer norm, linear of tokens, matmul, max pool padded, multihead, nearest, pad reflected, patches,
pixel shuffle, prelu, residual, slice strided, softmax of channels, squeeze and excite, transformer, transposed padded"""
NAMES = [" ".join(name.split()) for name in COMPARED.split(",")]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of litert-torch's files, and of the arrays that they were made with."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"no litert-torch at {ENVIRONMENT}: run benchmarks/peers/install litert-torch, or name an environment in TERSENET_LITERT_TORCH")
    folder = tmp_path_factory.mktemp("litert-torch")
    command = [str(python), str(HERE / "convert_with_litert_torch.py"), str(folder), *NAMES]
    surroundings = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_floats_are_those_of_litert_torch(name: str, theirs: Path, tmp_path: Path) -> None:
    make, shapes = NETWORKS[name]
    torch.manual_seed(0)
    network = make().eval()
    with np.load(theirs / f"{name}.npz") as kept:
        arrays = [kept[f"arr_{position}"] for position in range(len(shapes))]
    model = load(network, tuple(torch.from_numpy(array) for array in arrays))
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    ours = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)(*arrays)
    expected = LiteRTRunner().load(theirs / f"{name}.tflite").run(arrays)[0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
