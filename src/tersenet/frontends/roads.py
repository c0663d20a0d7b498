"""Formats that another tool has to convert first: recognized, so that the error can say with which command."""

from __future__ import annotations

from pathlib import Path

# What a command is made of: the path that was given, and folder, name and stem of the file in question.
SAVED_MODEL = "python -m tf2onnx.convert --saved-model {folder} --output net.onnx"
GRAPH = "python -m tf2onnx.convert --graphdef {path} --inputs NAME:0 --outputs NAME:0 --output net.onnx"
CAFFE = "python -m caffe2onnx.convert --prototxt {stem}.prototxt --caffemodel {stem}.caffemodel --onnx net.onnx"
PADDLE_2 = (
    "paddle2onnx --model_dir {folder} --model_filename {stem}.pdmodel --params_filename {stem}.pdiparams --save_file net.onnx --opset_version 14"
)
PADDLE_3 = PADDLE_2.replace(".pdmodel", ".json")
MXNET = "mxnet.onnx.export_model of MXNet 1.9"
ENDINGS = {
    "saved_model.pb": ("a TensorFlow SavedModel", SAVED_MODEL),
    ".pb": ("a TensorFlow graph", GRAPH),
    ".pdmodel": ("a PaddlePaddle network", PADDLE_2),
    ".pdiparams": ("weights of PaddlePaddle", PADDLE_2),
    ".caffemodel": ("weights of Caffe", CAFFE),
    ".prototxt": ("a Caffe network", CAFFE),
    ".params": ("weights of MXNet", MXNET),
    "-symbol.json": ("an MXNet network", MXNET),
    "inference.json": ("a PaddlePaddle network", PADDLE_3),
}
IN_FOLDERS = ("saved_model.pb", "inference.json", "inference.pdmodel", "model.pdmodel")


def road(path: Path) -> str:
    """What a file or folder is and how it becomes a network that is read here; "" where that is not known."""
    file = path
    if path.is_dir():
        file = next((path / name for name in IN_FOLDERS if (path / name).is_file()), path)
    found = next((entry for ending, entry in ENDINGS.items() if file.name.lower().endswith(ending)), None)
    if found is None:
        return ""
    command = found[1].format(path=path, folder=file.parent, name=file.name, stem=file.stem)
    return f"{found[0]}, which another tool makes .onnx of: {command} (docs/models.md, From other frameworks)"
