"""Files that are read back: ours of every operator, published ones, integer ones, damaged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from operator_networks import FLOATS, OF_IMAGES, RECURRENT, WEIGHTED, image_networks
from tersenet.data.parts import Data
from tersenet.errors import ModelError
from tersenet.frontends.table import load
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.signature import unique
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.testing.frontend import check_frontend

pytest.importorskip("ai_edge_litert")
from tersenet.formats import tflite
from tersenet.frontends.tflite.network import clean
from tersenet.frontends.tflite.table import OPERATORS, REFUSED, why_refused
from tersenet.targets.litert.capabilities import LITERT
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner

ALL = {**WEIGHTED, **image_networks(OF_IMAGES), **RECURRENT, **{f"{name} in floats": made for name, made in image_networks(FLOATS).items()}}
# Forms that our files have and the frontend does not read -> what its message says.
UNREAD = {"gather": "GATHER_ND"}


def written(model: Model, path: Path) -> Artifact:
    export = LiteRTExporter().export(model, path, ExportOptions())
    return Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)


def traced(name: str) -> tuple[Model, list[np.ndarray]]:
    make, shapes = ALL[name]
    torch.manual_seed(0)
    module = make().eval()
    arguments = tuple(torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in shapes)
    return load(module, arguments), [argument.numpy() for argument in arguments]


def as_stored(arrays: list[np.ndarray], artifact: Artifact) -> list[np.ndarray]:
    """The arrays in the order of the file's axes."""
    return [array.transpose(port.axes) if port.axes else array for array, port in zip(arrays, artifact.inputs, strict=True)]


@pytest.mark.parametrize("name", list(ALL))
def test_our_own_file_computes_the_same_when_it_is_read_back(name: str, tmp_path: Path) -> None:
    model, arrays = traced(name)
    artifact = written(model, tmp_path / "model.tflite")
    back = load(tmp_path / "model.tflite")
    wanted = artifact(*arrays)
    got = read_back(back, as_stored(arrays, artifact))
    for one, other, port in zip(_tuple(got), _tuple(wanted), artifact.outputs, strict=True):
        stored = other.transpose(port.axes) if port.axes else other
        np.testing.assert_allclose(one, stored, rtol=1e-3, atol=2e-4 * max(1.0, float(np.abs(stored).max())))


def read_back(model: Model, arrays: list[np.ndarray]) -> np.ndarray | tuple[np.ndarray, ...]:
    """The result for all samples; one at a time where the file's reshapes fix the batch."""
    if not model.fixed_batch:
        return model(*arrays)
    rows = [_tuple(model(*(array[sample : sample + 1] for array in arrays))) for sample in range(len(arrays[0]))]
    return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def _tuple(value: object) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def reference(path: Path):
    """A file in its own interpreter, a sample at a time; integers in and out as the numbers that they stand for."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: np.ndarray) -> np.ndarray:
        rows = []
        for sample in batch:
            interpreter.reset_all_variables()
            interpreter.set_tensor(source["index"], _stored(sample[None], source))
            interpreter.invoke()
            scale, zero = result["quantization"]
            found = interpreter.get_tensor(result["index"]).astype(np.float32)
            rows.append((found - zero) * scale if scale else found)
        return np.concatenate(rows)

    return run


def _stored(sample: np.ndarray, source: dict) -> np.ndarray:
    scale, zero = source["quantization"]
    if not scale:
        return sample
    limits = np.iinfo(source["dtype"])
    return np.clip(np.round(sample / scale + zero), limits.min, limits.max).astype(source["dtype"])


# name -> largest input, tolerance: of integer files, how far the float network that they stand for may be
PUBLISHED = {
    "mlperf_tiny/anomaly_detection/ad01_fp32.tflite": (1.0, 1e-4),
    "mlperf_tiny/image_classification/pretrainedResnet.tflite": (255.0, 1e-4),
    "mlperf_tiny/visual_wake_words/vww_96_float.tflite": (1.0, 1e-4),
    "mlperf_tiny/keyword_spotting/kws_ref_model_float32.tflite": (1.0, 1e-3),  # its own interpreter's kernels are 3e-3 apart
    "mnist_lstm/trained_lstm.tflite": (1.0, 1e-4),
    "mlperf_tiny/image_classification/pretrainedResnet_quant.tflite": (255.0, 0.1),
    "mlperf_tiny/visual_wake_words/vww_96_int8.tflite": (1.0, 0.1),
    "mlperf_tiny/streaming_wakeword/str_ww_ref_model.tflite": (1.0, 0.1),
    "coral_mobilenet_v1/mobilenet_v1_0.25_128_quant.tflite": (1.0, 0.1),
    "mnist_lstm/trained_lstm_int8.tflite": (1.0, 0.1),
}


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_published_files_hold_the_contract(name: str, tersenet_data: Path) -> None:
    largest, tolerance = PUBLISHED[name]
    path = tersenet_data / name
    shape = tflite.read(path.read_bytes())
    shape = shape.tensors[shape.inputs[0]].shape
    samples = np.random.default_rng(0).random((3, *shape[1:]), dtype=np.float32) * np.float32(largest)
    model = check_frontend(load, path, reference(path), [[samples]], tolerance=tolerance, excused={"training": "a .tflite file has no training mode"})
    assert sum(kind_of(node) == "permute" for node in deployable(model).graph.nodes) <= 1, "turned once, at its input"


def test_integer_files_bring_their_grids(tersenet_data: Path) -> None:
    model = load(tersenet_data / "mlperf_tiny/image_classification/pretrainedResnet_quant.tflite")
    assert len(model.annotations.values) >= 16, "every activation's grid"
    source = model.annotations.values[model.graph.graph.find_nodes(op="placeholder")[0].name]
    assert source.scheme.dtype == "int8" and source.scale == (1.0,) and source.zero_point == (-128,)


def test_files_with_integer_weights_are_read_as_floats(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 5)).eval()
    images = torch.rand(16, 3, 8, 8)
    model = Quantize().apply(load(network, (images[:2],)), Context((LITERT,), Data.from_arrays(calibration=images.numpy()))).model
    artifact = written(model, tmp_path / "model.tflite")
    back = load(tmp_path / "model.tflite")
    assert back.annotations.values and {spec.dtype for spec in back.inputs} == {"float32"}
    near = back(*as_stored([images.numpy()], artifact))
    wanted = np.concatenate([artifact(sample[None]) for sample in images.numpy()])
    assert np.abs(near - wanted).max() < 0.05 * np.abs(wanted).max()


def test_integer_weights_stay_on_their_grids_when_they_are_quantized_again(tmp_path: Path) -> None:
    """Also where the file's scales, here with half of the integers unused, are not those that its weights would be given."""
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.ConvTranspose2d(8, 4, 2, 2)]
    network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4 * 64, 5)).eval()
    images = torch.rand(16, 3, 8, 8).numpy()
    first = Quantize().apply(load(network, (torch.from_numpy(images[:2]),)), Context((LITERT,), Data.from_arrays(calibration=images))).model
    written(first, tmp_path / "first.tflite")
    graph = tflite.read((tmp_path / "first.tflite").read_bytes())
    halved = tflite.write(replace(graph, tensors=tuple(map(_halved, graph.tensors))))
    (tmp_path / "halved.tflite").write_bytes(halved)
    back = load(tmp_path / "halved.tflite")
    assert len(back.annotations.weights) == 4
    context = Context((LITERT,), Data.from_arrays(calibration=images.transpose(0, 2, 3, 1)))
    for take_over in (True, False):
        written(Quantize(take_over=take_over).apply(back, context).model, tmp_path / "again.tflite")
        again = (tmp_path / "again.tflite").read_bytes()
        assert (_integer_weights(again) == _integer_weights(halved)) == take_over


def _halved(tensor: tflite.Tensor) -> tflite.Tensor:
    if tensor.data is None or tensor.dtype != "int8":
        return tensor
    return replace(tensor, data=tensor.data // 2, numbers=replace(tensor.numbers, scale=tuple(2 * scale for scale in tensor.numbers.scale)))


def _integer_weights(content: bytes) -> list[bytes]:
    return [tensor.data.tobytes() for tensor in tflite.read(content).tensors if tensor.data is not None and tensor.dtype == "int8"]


def test_every_operator_of_the_schema_is_read_or_refused_with_a_reason() -> None:
    codes = {name for name in tflite.CODES if not name.startswith("STABLEHLO_")}
    assert OPERATORS.keys().isdisjoint(REFUSED)
    assert codes == (OPERATORS.keys() | REFUSED.keys()) - {"STABLEHLO_*"}
    assert why_refused("STABLEHLO_ADD") == REFUSED["STABLEHLO_*"]


def test_an_operator_that_is_not_read_is_named(tmp_path: Path) -> None:
    tensors = (tflite.Tensor("x", (1, 4), "float32"), tflite.Tensor("y", (1, 4), "float32"))
    graph = tflite.Graph(tensors, (tflite.Operator("WHERE", (0,), (1,)),), (0,), (1,))
    (tmp_path / "where.tflite").write_bytes(tflite.write(graph))
    with pytest.raises(ModelError, match=r"where\.tflite: 1 of its operators cannot be read \(WHERE: the sizes of its result depend on the data\)"):
        load(tmp_path / "where.tflite")


def test_names_are_plain_and_unique() -> None:
    assert clean("serving_default_input_1:0") == "input_1" and clean("1x1/conv;b") == "_1x1_conv"
    assert unique(["a", "b", "a", "a_2"]) == ("a", "b", "a_2", "a_2_2")


@pytest.mark.parametrize("name", ["conv relu", "lstm", "linear"])
def test_damaged_files_are_refused_and_nothing_worse(name: str, tmp_path: Path) -> None:
    model, _ = traced(name if name in ALL else next(key for key in ALL if key.startswith(name)))
    path = tmp_path / "model.tflite"
    written(model, path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for number in range(70):
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[int(generator.integers(1, len(whole))) :]
        else:
            for place in generator.integers(0, len(whole), 1 + number % 5):
                damaged[place] = int(generator.integers(0, 256))
        path.write_bytes(bytes(damaged))
        try:
            load(path)
        except ModelError as error:
            assert "model.tflite" in str(error) and "\n" not in str(error)
