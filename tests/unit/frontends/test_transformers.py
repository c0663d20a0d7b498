"""Folders that are no checkpoint, or a bad one: one clear error each, nothing executed, no memory taken."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet
import transformers_networks as networks
from tersenet.errors import ModelError, TersenetError, UntrustedError
from tersenet.frontends.transformers import folder as folders
from tersenet.frontends.transformers import network

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional checkpoint, with its processor."""
    folder = tmp_path_factory.mktemp("checkpoint")
    networks.saved(next(case for case in networks.CASES if case.config == "ResNetConfig"), folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def changed(folder: Path, **entries: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))
    return folder


def test_the_provenance_says_how_data_are_prepared(whole: Path) -> None:
    model = tersenet.load(whole, name="net")
    processing = model.provenance["processing"]
    assert model.name == "net" and model.inputs[0].shape == (None, 3, 64, 64)
    assert processing["class_names"] == ["LABEL_0", "LABEL_1", "LABEL_2"] and processing["task"] == "image-classification"
    assert processing["inputs"]["pixel_values"]["decoded"]["size"] == [64, 64]
    json.dumps(dict(model.provenance))


def test_weights_and_lengths_are_not_for_it(whole: Path) -> None:
    with pytest.raises(ModelError, match="has weights of its own"):
        tersenet.load(whole, weights="other.safetensors")
    with pytest.raises(ModelError, match="a length is for texts and for samples of sound"):
        tersenet.load(whole, length=9)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"architectures": None}, "must name one class under 'architectures'"),
        ({"architectures": ["ResNetModel"]}, "is a ResNetModel; the classifiers"),
        ({"depths": [10**9, 1]}, "1000000001 layers"),
        ({"hidden_sizes": [10**6, 10**6]}, "its configuration asks for"),
        ({"hidden_sizes": [16, 16]}, r"do not fit its configuration: \S+ has the shape \(.*\), wanted \(.*\) \(and \d+ more\)\.$"),
        ({"hidden_sizes": "many"}, "its configuration"),
        ({"num_labels": 10**12}, "a network has at most 1000000 classes"),
        ({"num_channels": 10**9}, "its configuration asks for"),
        ({"model_type": "none such"}, "cannot be read"),
        ({"num_labels": 5, "id2label": {str(number): "x" for number in range(5)}}, "its weights"),
    ],
)
def test_bad_configurations(entries: dict[str, Any], message: str, copy: Path) -> None:
    with pytest.raises(ModelError, match=message):
        tersenet.load(changed(copy, **entries))


def test_code_that_comes_with_it_does_not_run(copy: Path) -> None:
    (copy / "own.py").write_text("raise SystemExit('it ran')\n")
    changed(copy, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Net"})
    with pytest.raises(UntrustedError, match="brings its own code"):
        tersenet.load(copy)


def test_weights_that_are_a_pickle(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UntrustedError, match="a pickle, not safetensors"):
        tersenet.load(copy)
    with pytest.raises(ModelError, match="its weights cannot be loaded"):
        tersenet.load(copy, trust=True)
    (copy / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="model.safetensors is missing"):
        tersenet.load(copy)


def test_a_pickle_of_tensors_is_read_where_it_is_trusted(whole: Path, copy: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert tersenet.load(copy, trust=True).fingerprint == tersenet.load(whole).fingerprint


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "model.bin", "absent.safetensors"])
def test_an_index_names_files_beside_it_alone(name: str, copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "one.safetensors")
    (copy / folders.INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=r"names the file"):
        tersenet.load(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_truncated_and_mutated_files(name: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with a file, it is an error of ours. What passes the checks would be loaded: that is tried in a few cases only."""
    original = (copy / name).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for index in range(200):
        content = bytearray(original[: generator.integers(len(original))] if index % 2 else original)
        for _ in range(0 if index % 2 else 4):
            content[generator.integers(min(len(content), 4000))] = generator.integers(256)
        (copy / name).write_bytes(bytes(content))
        try:
            folders.opened(copy, "net", False)
        except TersenetError:
            refused += 1
    assert refused > 120


SECONDS, BYTES = 60, 2 << 30
EXTREMES = [0, -1, 1, 10**9, 10**18, 1e300, "x", None, [], [10**9] * 3, {"a": 1}, True]


def outcome(folder: Path) -> int:
    """How reading a folder up to its network ends, in a fork with limits: 0 it is read, 2 an error of ours, else it crashed or hung."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
            signal.alarm(SECONDS)
            checkpoint = folders.opened(folder, "net", False)
            network.loaded(checkpoint, network.kind_of(checkpoint), False)
            status = 0
        except TersenetError:
            status = 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ResNetConfig", "BertConfig", "SwinConfig", "Wav2Vec2Config", "ASTConfig"])
def test_configurations_with_extreme_numbers(config: str, tmp_path: Path) -> None:
    """Two hundred in all: every entry of a configuration in turn is something that it must not be."""
    networks.saved(next(case for case in networks.CASES if case.config == config), tmp_path)
    original = json.loads((tmp_path / "config.json").read_text())
    generator = np.random.default_rng(0)
    keys = sorted(original)
    for index in range(40):
        key, value = keys[index % len(keys)], EXTREMES[int(generator.integers(len(EXTREMES)))]
        (tmp_path / "config.json").write_text(json.dumps({**original, key: value}))
        assert outcome(tmp_path) in (0, 2), f"{key} = {value}"


def test_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def failing(*args: Any, **kwargs: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    with pytest.raises(ModelError, match=r"hf:owner/name cannot be fetched: the hub cannot be reached"):
        tersenet.load("hf:owner/name")
    with pytest.raises(ModelError, match="is no name of a repository"):
        tersenet.load("hf:../../etc")


def test_a_hub_name_of_one_word_is_no_python_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *args, **kwargs: "/nowhere")
    with pytest.raises(ModelError, match="config.json cannot be read"):
        tersenet.load("hf:gpt2")
