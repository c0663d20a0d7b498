"""`load`: every kind of source, and one clear message for each that cannot be read."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet.errors import ModelError, UntrustedError
from tersenet.frontends.table import FRONTENDS, load
from tersenet.testing.frontend import check_frontend

torch.set_num_threads(1)

NET = """
import torch
from torch import nn
from beside import WIDTH

class Net(nn.Module):
    example_inputs = (torch.zeros(2, 3),)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, WIDTH)

    def forward(self, x):
        return torch.relu(self.layer(x))

module = Net()
bare = nn.Linear(3, 4)
number = 3

def factory():
    print("building")
    return Net()

def pair():
    return nn.Linear(3, 4), (torch.zeros(1, 3),)

def model():
    import tersenet
    return tersenet.load(Net())

def named():
    import tersenet
    return tersenet.load(Net(), name="chosen")

def broken():
    return torch.zeros(3) + torch.zeros(4)

def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's file, as the working directory."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    (tmp_path / "torn.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name, called", [("module", "module"), ("factory", "factory"), ("pair", "pair"), ("model", "model"), ("named", "chosen")])
def test_what_a_users_file_may_name(folder, name, called):
    model = load(f"net.py:{name}")
    assert model.name == called
    assert model(np.ones((5, 3), np.float32)).shape == (5, 4)


def test_a_package_may_be_named(folder):
    assert load("net:factory").name == "factory"


def test_a_factory_keeps_the_contract(folder):
    weights = torch.nn.Linear(3, 4)
    torch.manual_seed(0)
    weights.reset_parameters()

    def reference(x: np.ndarray) -> np.ndarray:
        return torch.relu(weights(torch.from_numpy(x))).detach().numpy()

    check_frontend(load, "net.py:factory", reference, [[np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)]], training=reference)


def test_what_the_users_file_prints_goes_to_stderr(folder, capsys):
    load("net.py:factory")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "building" in captured.err


def test_the_path_is_put_back(folder):
    import sys

    before = list(sys.path)
    load("net.py:factory")
    assert sys.path == before


def test_a_model_is_returned_as_it_is(folder):
    model = load("net.py:factory")
    assert load(model) is model
    assert load(model, name="other").name == "other"
    with pytest.raises(ModelError, match="traced already"):
        load(model, weights="w.safetensors")


def test_example_inputs_beside_a_module():
    model = load(nn.Linear(3, 4), (torch.zeros(1, 3),))
    assert model.name == "Linear"
    with pytest.raises(ModelError, match=r"Linear needs example inputs.*tersenet\.load\(module, example_inputs\).*file\.py:name"):
        load(nn.Linear(3, 4))


def test_wrappers_are_taken_off():
    for wrapped in (torch.compile(nn.Linear(3, 4)), nn.DataParallel(nn.Linear(3, 4))):
        model = load(wrapped, (torch.zeros(1, 3),))
        assert (model.name, model.inputs[0].name, sorted(model.graph.state_dict())) == ("Linear", "input", ["bias", "weight"])


def test_the_face_has_load():
    assert tersenet.load is load


@pytest.mark.parametrize(
    "source, words",
    [
        ("net.py:factor", ["net.py", "'factor'", "factory"]),
        ("nett.py:factory", ["nett.py", "does not exist"]),
        ("net.py:number", ["net.py:number", "int"]),
        ("net.py:bare", ["net.py:bare", "example inputs"]),
        ("net.py:broken", ["net.py", "broken()", "torch.zeros(3) + torch.zeros(4)", "RuntimeError"]),
        ("net.py:leaves", ["net.py", "SystemExit"]),
        ("torn.py:net", ["torn.py", "line 1", "SyntaxError"]),
        ("no_such_package:net", ["no_such_package", "ModuleNotFoundError"]),
        ("net.py", ["net.py", "file.py:name"]),
        ("nett.py", ["nett.py", "does not exist", "net.py"]),
        ("missing.keras", ["missing.keras", "does not exist"]),
    ],
)
def test_what_cannot_be_read_is_named(folder, source, words):
    with pytest.raises(ModelError) as caught:
        load(source)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["torn.keras", "old.h5", "torn.onnx", "small.tflite", "small.pt2", "other.txt"])
def test_a_file_that_is_none_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04zzz")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file, given, words",
    [
        ("saved/saved_model.pb", "saved", ["a TensorFlow SavedModel", "tf2onnx.convert --saved-model", "saved --output"]),
        ("saved/saved_model.pb", "saved/saved_model.pb", ["a TensorFlow SavedModel", "saved --output"]),
        ("frozen.pb", "frozen.pb", ["a TensorFlow graph", "--graphdef"]),
        ("net/inference.json", "net", ["PaddlePaddle", "--model_filename inference.json --params_filename inference.pdiparams"]),
        ("net/model.pdmodel", "net", ["PaddlePaddle", "--model_filename model.pdmodel"]),
        ("net.caffemodel", "net.caffemodel", ["Caffe", "caffe2onnx.convert --prototxt net.prototxt"]),
        ("net-symbol.json", "net-symbol.json", ["MXNet", "export_model"]),
    ],
)
def test_what_another_tool_converts_is_told_with_its_command(tmp_path, file, given, words):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"{}")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / given)
    assert all(word in str(caught.value) for word in [given, *words])
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text()
    assert next(word for word in ("tf2onnx", "caffe2onnx", "paddle2onnx", "export_model") if word in str(caught.value)) in page


def test_an_unknown_ending_is_answered_with_what_a_network_may_be(tmp_path):
    (tmp_path / "net.mlmodel").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "net.mlmodel")
    named = (
        "torch module",
        "keras.Model",
        "tersenet.Model",
        "file.py:name",
        "package.module:name",
        "Transformers",
        "hf:ID",
        ".keras",
        ".h5",
        ".onnx",
        ".tflite",
        ".pt2",
    )
    assert all(name in str(caught.value) for name in named)


def test_example_inputs_are_refused_where_there_is_nothing_to_fix(tmp_path):
    model = load(nn.Linear(3, 4), (torch.zeros(1, 3),))
    with pytest.raises(ModelError, match="traced already; example inputs"):
        load(model, (torch.zeros(1, 3),))
    (tmp_path / "net.pt2").write_bytes(b"")
    with pytest.raises(ModelError, match=r"net\.pt2 has its sizes in it"):
        load(tmp_path / "net.pt2", (torch.zeros(1, 3),))


def test_folders_are_no_networks(tmp_path):
    with pytest.raises(ModelError, match="is a folder"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="must name one class under 'architectures'"):
        load(str(tmp_path))


def test_other_objects_are_no_networks():
    with pytest.raises(ModelError, match="got int"):
        load(3)


class Evil:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.bin"])
def test_pickles_are_refused_unopened(folder, name):
    Path(name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UntrustedError, match=rf"{name}.*--trust opens it; .*file\.py:name --weights {name}\.$"):
        load(name)
    assert not Path("executed").exists()


def test_a_trusted_pickle_is_opened(folder):
    torch.save(nn.Linear(3, 4), "whole.pt")
    assert load("whole.pt", (torch.zeros(1, 3),), trust=True).name == "whole"
    torch.save(nn.Linear(3, 4).state_dict(), "state.pt")
    with pytest.raises(ModelError, match=r"state\.pt holds a OrderedDict.*file\.py:name --weights state\.pt\.$"):
        load("state.pt", trust=True)


def test_every_row_of_the_table_is_a_frontend():
    import importlib

    for module, name in FRONTENDS.values():
        frontend = getattr(importlib.import_module(module), name)()
        assert not frontend.accepts(3)
        assert callable(frontend.read)


def test_a_trained_network_of_the_acceptance_cases(tersenet_data):
    cases = tersenet_data.parent / "accept" / "cases.py"
    if not cases.is_file():
        pytest.skip(f"no acceptance cases at {cases}")
    model = load(f"{cases}:resnet32")
    assert model.name == "resnet32"
    assert (model.inputs[0].shape, model.inputs[0].layout) == ((None, 3, 32, 32), "NCHW")
    assert model(np.zeros((3, 3, 32, 32), np.float32)).shape == (3, 10)
