"""What loading takes: seconds, beside the source framework's own reading of the same file, and peak memory above the imports.

    python benchmarks/loading.py [FORMAT...]

Published networks of TERSENET_DATA, where that is there, and a file of 100 MB of every format, which this script makes. Each file is read in
processes of their own that have read a tiny one of its format before, so that what is imported is not counted.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from setting.networks import BENCH, DATA
from setting.results import Results

HERE, FOLDER = Path(__file__).resolve(), BENCH / "loading"
FORMATS = ("h5", "keras", "onnx", "tflite", "pt2", "safetensors", "transformers")
RUNS, LIMIT = 3, 2.5  # the limit: peak memory over the size of the large file
LARGE, TINY = "100 MB", "tiny"
CHANNELS = {LARGE: 512, TINY: 4}  # of ten convolutions of 3 x 3 and a linear layer: 94 MB of kernels, which most formats lay out otherwise than torch
FRAMEWORKS = {**os.environ, "KERAS_BACKEND": "torch"}
PUBLISHED = {
    "ResNet-8": ("h5", "mlperf_tiny/image_classification/pretrainedResnet.h5"),
    "visual wake words": ("h5", "mlperf_tiny/visual_wake_words/vww_96.h5"),
    "MobileNetV2 0.35 backbone": ("keras", "mobilenet_v2_0.35/mobilenet_v2_0.35_224_backbone.keras"),
    "SqueezeNet 1.0": ("onnx", "squeezenet/squeezenet_v1_0_decoded.onnx.gz"),
    "MobileNetV1 0.25": ("onnx", "coral_mobilenet_v1/mobilenet_v1_0.25_128_dequant.onnx"),
    "keyword spotting": ("tflite", "mlperf_tiny/keyword_spotting/kws_ref_model_float32.tflite"),
    "MNIST LSTM": ("tflite", "mnist_lstm/trained_lstm.tflite"),
}


def main() -> None:
    results = Results("loading", ("format", "file"))
    for kind, name, path in files(sys.argv[1:] or FORMATS):
        tiny, size = made(kind, TINY), size_of(path)
        ours = [child("tersenet", path, tiny) for _ in range(RUNS)]
        own = [child(kind, path, tiny) for _ in range(RUNS)] if kind in OWN else []
        row: dict[str, Any] = {"format": kind, "file": name, "bytes": size, "load_seconds": middle(ours, "seconds")}
        row |= {"own_seconds": middle(own, "seconds") if all(own) and own else None, "peak_bytes": middle(ours, "peak")}
        large = {"value": round(row["peak_bytes"] / size, 3), "limit": LIMIT} if name == LARGE else {}
        results.put(**row, **large)


def files(formats: list[str] | tuple[str, ...]) -> Iterator[tuple[str, str, Path]]:
    """(format, name, path) of everything that is read."""
    for kind in formats:
        for name, (of, path) in PUBLISHED.items():
            if of == kind and (DATA / path).exists():
                yield kind, name, unpacked(DATA / path)
        for name in ("ResNet-32",) if kind == "pt2" else ():
            yield kind, name, made(kind, name)
        yield kind, LARGE, made(kind, LARGE)


def unpacked(path: Path) -> Path:
    if path.suffix != ".gz":
        return path
    plain = FOLDER / path.stem
    plain.parent.mkdir(parents=True, exist_ok=True)
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    return plain


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def middle(runs: list[dict[str, float]], what: str) -> float:
    return statistics.median(run[what] for run in runs)


def made(kind: str, name: str) -> Path:
    """A file of ours, made once in a process of its own."""
    path = FOLDER / f"{name.replace(' ', '-')}.{kind}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(HERE), "--make", kind, name, str(path)], check=True, capture_output=True, env=FRAMEWORKS)
    return path


def child(reader: str, path: Path, tiny: Path) -> dict[str, float]:
    """Seconds and peak bytes of one reading; {} where the framework cannot read this file."""
    command = [sys.executable, str(HERE), "--read", reader, str(path), str(tiny)]
    done = subprocess.run(command, capture_output=True, text=True, env=FRAMEWORKS, check=False)
    if done.returncode and reader == "tersenet":
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {}


def measured(read: Callable[[Path], Any], path: Path, tiny: Path) -> dict[str, float]:
    """Seconds of a reading, and how far the process grew at its peak."""
    read(tiny)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here (proc(5))
    before, start = memory("VmRSS"), time.perf_counter()
    held = read(path)
    seconds = time.perf_counter() - start
    found = {"seconds": round(seconds, 3), "peak": memory("VmHWM") - before}
    del held
    return found


def memory(what: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(what)))


def _tersenet(path: Path) -> Any:
    import tersenet

    if path.suffix == ".safetensors":
        return tersenet.load(f"{HERE}:{'tiny' if path.stem == TINY else 'large'}", weights=path)
    return tersenet.load(path)


def _keras(path: Path) -> Any:
    import keras

    return keras.models.load_model(path, compile=False)


def _onnx(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _pt2(path: Path) -> Any:
    import torch

    return torch.export.load(path)


def _transformers(path: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True)


OWN: dict[str, Callable[[Path], Any]] = {"h5": _keras, "keras": _keras, "onnx": _onnx, "pt2": _pt2, "transformers": _transformers}


def make(kind: str, name: str, path: Path) -> None:
    """Write a network with random weights."""
    partial = path.with_name(f"partial-{path.name}")
    if kind in ("h5", "keras"):
        _keras_network(CHANNELS[name]).save(partial)
    elif kind == "transformers":
        _bert(name).save_pretrained(partial)
    else:
        _exported(kind, name, partial)
    os.replace(partial, path)


def _keras_network(channels: int) -> Any:
    import keras
    from keras import layers

    convolutions = [layers.Conv2D(channels, 3, padding="same", activation="relu") for _ in range(11)]
    return keras.Sequential([layers.Input((8, 8, 3)), *convolutions, layers.GlobalAveragePooling2D(), layers.Dense(1000)])


def _bert(name: str) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 12_000}
    if name == TINY:
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    return BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=256))


def _exported(kind: str, name: str, path: Path) -> None:
    import torch
    from setting import networks

    import tersenet
    from tersenet.targets import table

    network, example = (networks.load("resnet32"), torch.rand(2, 3, 32, 32)) if name == "ResNet-32" else _torch_network(CHANNELS[name])
    if kind == "pt2":
        program = torch.export.export(network.eval(), (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, path)
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    else:
        exporter = table.exporter(table.find({"onnx": "onnxruntime", "tflite": "litert"}[kind]))
        exporter.export(tersenet.load(network.eval(), (example,)), path, tersenet.ExportOptions())


def large() -> Any:
    """The network of 100 MB, as a file of code gives it; its own weights count too."""
    return _torch_network(CHANNELS[LARGE])


def tiny() -> Any:
    """A small one of the same kind."""
    return _torch_network(CHANNELS[TINY])


def _torch_network(channels: int) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    sizes = [3] + [channels] * 11
    layers = [layer for inner, outer in pairwise(sizes) for layer in (nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)), torch.rand(2, 3, 8, 8)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        readers = {**OWN, "tersenet": _tersenet}
        print(json.dumps(measured(readers[sys.argv[2]], Path(sys.argv[3]), Path(sys.argv[4]))))
    elif sys.argv[1:2] == ["--make"]:
        make(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main()
