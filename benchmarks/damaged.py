"""Damaged files of every format, each opened in a fork of a warm parent with limits of time and memory.

    python benchmarks/damaged.py [COUNT [FORMAT...]]      COUNT files of each format, 10,000 unless said

A file may be read (damage to a weight is no damage to a format) or refused by an error of ours. Anything else is counted and its recipe
kept: another exception, a crash, more than `SECONDS`, more than `MEMORY`, or a payload that ran.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from setting.results import Results
from torch import nn

import tersenet

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
SECONDS, MEMORY = 30, 4 << 30  # of one file; the memory is what the fork may take beside the parent's
READ, REFUSED, RAISED, CRASHED, SLOW, RAN = "read", "refused", "another exception", "crashed", "too slow", "ran a payload"


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 5), nn.Softmax(1)]
    return nn.Sequential(*layers).eval()


def pt2(folder: Path) -> Path:
    program = torch.export.export(network(), (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "whole.pt2")
    return folder / "whole.pt2"


def exported(target: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = tersenet.Data.from_arrays(evaluation=np.random.default_rng(0).random((8, 3, 8, 8), np.float32))
        tersenet.compress(tersenet.load(network(), (torch.rand(2, 3, 8, 8),)), data, recipe=tersenet.Recipe([]), to=target, out=folder / target)
        return shutil.copy(folder / target / "artifacts" / target / f"model{Path(name).suffix}", folder / name)

    return make


def keras(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras as framework

        layers = framework.layers
        parts = [layers.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(), layers.Flatten()]
        framework.Sequential([*parts, layers.Dense(5, activation="softmax")]).save(folder / name)
        return folder / name

    return make


def transformers(folder: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=16)).save_pretrained(folder / "bert")
    return folder / "bert" / "config.json"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "onnx": exported("onnxruntime", "whole.onnx"),
    "tflite": exported("litert", "whole.tflite"),
    "pt2": pt2,
    "keras": keras("whole.keras"),
    "h5": keras("whole.h5"),
    "transformers": transformers,
}


def main() -> None:
    torch.set_num_threads(1)
    results = Results("damaged", ("format",))
    for name in sys.argv[2:] or FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            whole = FORMATS[name](Path(folder))
            judge(results, name, whole)


def judge(results: Results, name: str, whole: Path) -> None:
    """All damaged files of one format."""
    content, counts, kept = whole.read_bytes(), Counter[str](), []
    opened = whole.parent if name == "transformers" else whole
    tersenet.load(opened)  # what a first file imports
    start = time.perf_counter()
    for number in range(COUNT):
        whole.write_bytes(damaged(content, number))
        outcome, why = tried(opened)
        counts[outcome] += 1
        if outcome not in (READ, REFUSED) and len(kept) < 20:
            kept.append(f"{number}: {outcome} {why}")
        if number % 250 == 249 or number == COUNT - 1:
            spent = 1000 * (time.perf_counter() - start) / (number + 1)
            bad = sum(count for outcome, count in counts.items() if outcome not in (READ, REFUSED))
            row = {"files": number + 1, "value": bad, "limit": 0, "outcomes": dict(sorted(counts.items())), "ms_each": round(spent, 1), "kept": kept}
            results.put(format=name, **row)


def damaged(content: bytes, number: int) -> bytes:
    """The file of this number: cut short, some bytes changed, a stretch of zeros or of another place, or a length made huge."""
    generator = np.random.default_rng(number)
    changed, kind = bytearray(content), number % 5
    place = int(generator.integers(0, len(content)))
    if kind == 0:
        return content[:place]
    if kind == 1:
        for spot in generator.integers(0, len(content), int(generator.integers(1, 9))):
            changed[spot] = int(generator.integers(0, 256))
    elif kind == 2:
        changed[place : place + 16] = bytes(16)
    elif kind == 3:
        other, length = int(generator.integers(0, len(content))), int(generator.integers(1, 64))
        changed[place : place + length] = content[other : other + length]
    else:
        changed[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


def tried(path: Path) -> tuple[str, str]:
    """What happens when a fork opens the file."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(path, writer)
    os.close(writer)
    told = b""
    while part := os.read(reader, 4096):
        told += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        stopped = os.WTERMSIG(status)
        return (SLOW if stopped in (signal.SIGALRM, signal.SIGXCPU) else CRASHED), signal.Signals(stopped).name
    outcome, _, why = told.decode(errors="replace").partition("\n")
    return outcome or CRASHED, why


def _child(path: Path, writer: int) -> None:
    """Open the file and say what came of it; never returns."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(4 * SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    for name in ("system", "popen", "execv", "execve"):
        setattr(os, name, lambda *_: _say(writer, RAN))
    try:
        tersenet.load(path)
    except tersenet.TersenetError as error:
        _say(writer, REFUSED if "\n" not in str(error) else f"{RAISED}\nseveral lines: {error}")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        _say(writer, f"{RAISED}\n{type(error).__name__}: {str(error)[:200]}")
    _say(writer, READ)


def _say(writer: int, text: str) -> None:
    os.write(writer, text.encode()[:2000])
    os._exit(0)


if __name__ == "__main__":
    main()
