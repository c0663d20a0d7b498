"""Damaged files of every format, opened in forks of a warm parent with limits of time and memory.

    python benchmarks/damaged.py [COUNT [FORMAT...]]      COUNT files of each format, 10,000 unless said

A file may be loaded (damage to a weight is no damage to a format) or refused by an error of ours in one line. Anything else is a finding:
another exception, a crash, more than `SECONDS`, more than `MEMORY`, or a payload that ran. Findings are kept under .bench/damaged, counted,
and tried again by the next run, which goes on where the last one was.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from setting.networks import BENCH
from setting.results import Results
from torch import nn

import tersenet

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
TOGETHER = 100  # files that one fork opens in turn: a fork of torch costs as much as most files do
SECONDS, MEMORY = 30, 1 << 30  # of one file; the memory is what it may add to the fork's
LOADED, REFUSED, RAISED, CRASHED, SLOW, LARGE, RAN = (
    "loaded", "refused", "another exception", "crashed", "too slow", "too large", "ran a payload"
)  # fmt: skip
PAYLOADS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "shutil.rmtree", "os.remove")
KEPT = BENCH / "damaged"


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
        framework.Sequential([layers.Input((4, 4, 3)), layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]).save(folder / name)
        return folder / name

    return make


def transformers(folder: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4, "vocab_size": 8}
    BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=8)).save_pretrained(folder / "bert")
    return folder / "bert"


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
            tersenet.load(whole)  # what a first file imports
            gc.collect()
            gc.freeze()  # so that a fork need not copy what it only counts
            judge(results, name, whole)


def judge(results: Results, name: str, whole: Path) -> None:
    """The damaged files of one format that no earlier run has tried, and the findings of the earlier ones."""
    nothing: dict[str, Any] = {"files": 0, "outcomes": {}, "kept": {}, "spent_seconds": 0}
    before = next((row for row in results.rows if row["format"] == name), nothing)
    counts, kept, spent = Counter(before["outcomes"]), dict(before["kept"]), before["spent_seconds"]
    damage = Damage(whole)
    for number, (outcome, _) in tried(damage, [int(number) for number in kept]):
        counts.subtract([kept.pop(str(number)).split(":")[0]])
        counts.update([outcome])
    start, first = time.perf_counter(), before["files"]
    for number, (outcome, why) in tried(damage, range(first, COUNT)):
        counts.update([outcome])
        if outcome not in (LOADED, REFUSED):
            kept[str(number)] = f"{outcome}: {why}"
            damage.keep(number, KEPT / f"{name}-{number}")
        if number % 250 == 249 or number == COUNT - 1:
            row = {"files": number + 1, "value": len(kept), "limit": 0, "outcomes": {key: n for key, n in sorted(counts.items()) if n}, "kept": kept}
            results.put(format=name, **row, spent_seconds=round(spent + time.perf_counter() - start, 1))


class Damage:
    """A whole model, and its damaged copies by number: of an archive or a folder every second one is damaged inside one member."""

    def __init__(self, whole: Path) -> None:
        self.path = whole
        self.content = b"" if whole.is_dir() else whole.read_bytes()
        self.members = dict(self._inside())

    def _inside(self) -> Iterator[tuple[str, bytes]]:
        if self.path.is_dir():
            yield from ((file.name, file.read_bytes()) for file in sorted(self.path.iterdir()))
        elif zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                yield from ((name, content) for name in archive.namelist() if (content := archive.read(name)))

    def write(self, number: int) -> None:
        """Put the copy of this number where the whole model was."""
        generator = np.random.default_rng(number)
        inside = self.members and (self.path.is_dir() or number // 5 % 2)
        if not inside:
            self.path.write_bytes(damaged(self.content, number % 5, generator))
            return
        chosen = sorted(self.members)[int(generator.integers(0, len(self.members)))]
        members = {**self.members, chosen: damaged(self.members[chosen], number % 5, generator)}
        if self.path.is_dir():
            for name, content in members.items():
                (self.path / name).write_bytes(content)
        else:
            packed = BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for name, content in members.items():
                    archive.writestr(name, content)
            self.path.write_bytes(packed.getvalue())

    def keep(self, number: int, where: Path) -> None:
        """Leave the copy of this number for whoever mends what it does."""
        self.write(number)
        where.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(where, ignore_errors=True)
        copy = shutil.copytree if self.path.is_dir() else shutil.copy
        copy(self.path, where.with_suffix(self.path.suffix))


def damaged(content: bytes, kind: int, generator: np.random.Generator) -> bytes:
    """Cut short, some bytes changed, a stretch of zeros or of another place, or a length made huge."""
    changed = bytearray(content)
    filled = np.flatnonzero(np.frombuffer(content, np.uint8))  # some formats are half empty, and nobody reads that
    place = int(generator.choice(filled)) if len(filled) else 0
    if kind == 0:
        return content[:place]
    if kind == 1:
        for spot in generator.choice(filled, int(generator.integers(1, 9))) if len(filled) else ():
            changed[spot] = int(generator.integers(0, 256))
    elif kind == 2:
        changed[place : place + 16] = bytes(16)
    elif kind == 3:
        other, length = int(generator.integers(0, len(content))), int(generator.integers(1, 64))
        changed[place : place + length] = content[other : other + length]
    else:
        changed[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(changed)


def tried(damage: Damage, numbers: range | list[int]) -> Iterator[tuple[int, tuple[str, str]]]:
    """What comes of each file: some in turn in one fork, and the rest of them in another where one brings the fork down."""
    waiting = list(numbers)
    while waiting:
        together = waiting[:TOGETHER]
        told, status = forked(damage, together)
        yield from zip(together, told, strict=False)
        done = len(told)
        if done < len(together):
            yield together[done], ended(status)
            done += 1
        waiting = waiting[done:]


def forked(damage: Damage, numbers: list[int]) -> tuple[list[tuple[str, str]], int]:
    """What a fork tells of these files, until it ends, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(damage, numbers, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
        told = [tuple(line.rstrip("\n").split("\t", 1)) for line in lines]
    _, status = os.waitpid(child, 0)
    return told, status  # type: ignore[return-value]


def ended(status: int) -> tuple[str, str]:
    """The outcome of a file that brought its fork down."""
    if not os.WIFSIGNALED(status):
        return CRASHED, f"exit code {os.waitstatus_to_exitcode(status)}"
    stopped = os.WTERMSIG(status)
    return (SLOW if stopped in (signal.SIGALRM, signal.SIGXCPU) else CRASHED), signal.Signals(stopped).name


def _child(damage: Damage, numbers: list[int], writer: int) -> None:
    """Open the files in turn and say of each what came of it; never returns."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    inside = [False]

    def watch(event: str, _: Any) -> None:
        if inside[0] and event in PAYLOADS:
            _say(writer, RAN, event)
            os._exit(0)

    sys.addaudithook(watch)
    for number in numbers:
        damage.write(number)
        _limit()
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        inside[0] = True
        outcome, why = _opened(damage.path)
        inside[0] = False
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) << 10
        _say(writer, *((LARGE, f"{more:,} bytes") if more > MEMORY // 2 else (outcome, why)))
    os._exit(0)


def _limit() -> None:
    """Of the next file: time by both clocks, and address space."""
    signal.alarm(20 * SECONDS)  # the machine may be busy; this is for what sleeps
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + SECONDS, resource.RLIM_INFINITY))
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))


def _opened(path: Path) -> tuple[str, str]:
    try:
        tersenet.load(path)
    except tersenet.TersenetError as error:
        return (REFUSED, "") if "\n" not in str(error) else (RAISED, f"several lines: {error}")
    except BaseException as error:  # noqa: BLE001 - this is what is looked for
        return RAISED, f"{type(error).__name__}: {error}"
    return LOADED, ""


def _say(writer: int, outcome: str, why: str) -> None:
    os.write(writer, f"{outcome}\t{' '.join(why.split())[:200]}\n".encode())


if __name__ == "__main__":
    main()
