"""The files that are compared, each made once under .bench/files: ours from this process, the peers' from their own environments."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from setting import images, networks
from setting.networks import BENCH

import tersenet
from tersenet.model import Model
from tersenet.step import Context
from tersenet.target import Artifact, ExportOptions
from tersenet.targets import table

HERE = Path(__file__).resolve().parents[1]
TARGETS = {"onnxruntime": ".onnx", "litert": ".tflite", "executorch": ".pte"}
PEER_SECONDS = 1200


@dataclass(frozen=True)
class Peer:
    """A vendor's quantizer.

    Args:
        target: the runtime that its files are for.
        floats: whose float file it starts from: its own, another peer's, or ours.
        own: it is the runtime's own quantizer, which ours is timed against.
    """

    target: str
    floats: str
    own: bool = True


PEERS = {
    "onnxruntime": Peer("onnxruntime", "onnxruntime"),
    "nncf": Peer("onnxruntime", "onnxruntime", own=False),
    "ai-edge-quantizer": Peer("litert", "tersenet"),
    "litert-torch": Peer("litert", "litert-torch"),
    "executorch": Peer("executorch", "executorch"),
}


def installed(peer: str) -> bool:
    """Whether `benchmarks/peers/install` has made the peer's environment."""
    return (BENCH / peer / ".installed").exists()


def loaded(name: str) -> Model:
    """A network as tersenet sees it."""
    return tersenet.load(networks.load(name), (networks.example(name),), name=name)


def quantized(model: Model, samples: np.ndarray, targets: list[str], **options: Any) -> Model:
    """The network with plans for some targets."""
    data = tersenet.Data.from_arrays(calibration=samples).bind(model.inputs)
    tables = tuple(table.capabilities(table.find(target)) for target in targets)
    return tersenet.Quantize(**options).apply(model, Context(tables, data)).model


def ours(name: str, target: str, *, integers: bool = True, integer_io: bool | None = None, seed: int = 0, count: int = 256) -> Path:
    """Our file of a network, integer or float."""
    kind = ("int8-io" if integer_io else f"int8-{seed}") if integers else "float"
    path = BENCH / "files" / name / f"tersenet-{kind}{TARGETS[target]}"
    if not path.exists():
        model = loaded(name)
        if integers:
            model = quantized(model, images.calibration(name, count, seed), [target])
        _made(path, lambda partial: table.exporter(table.find(target)).export(model, partial, ExportOptions(integer_io=integer_io)))
    return path


def theirs(name: str, peer: str, seed: int = 0, count: int = 256) -> Path | None:
    """A peer's integer file of a network; None where the peer is not installed or fails, which is said beside where it would be."""
    row = PEERS[peer]
    path = BENCH / "files" / name / f"{peer}-int8-{seed}{TARGETS[row.target]}"
    failed = path.with_suffix(".failed")
    if path.exists():
        return path
    if not installed(peer) or failed.exists():
        return None
    plain = ours(name, row.target, integers=False) if row.floats == "tersenet" else _their_float(name, row)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    arguments = [name, str(images.kept(name, count, seed)), str(plain), str(partial)]
    done = _run(peer, arguments)
    if done.returncode or not partial.exists():
        failed.write_text((done.stdout + done.stderr)[-2000:])
        return None
    os.replace(partial, path)
    path.with_suffix(".json").write_text(json.dumps(_seconds(done.stdout)))
    return path


def their_float(name: str, target: str) -> Path | None:
    """The converter's own float file: torch.onnx.export's, litert-torch's, ExecuTorch's; None where there is none."""
    peer = {"onnxruntime": "onnxruntime", "litert": "litert-torch", "executorch": "executorch"}[target]
    return _their_float(name, PEERS[peer]) if theirs(name, peer) else None


def _their_float(name: str, row: Peer) -> Path:
    return BENCH / "files" / name / f"{row.floats}-float{TARGETS[row.target]}"


def _run(peer: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    python = BENCH / peer / "bin" / "python"
    path = os.pathsep.join([str(python.parent), os.environ.get("PATH", "")])
    surroundings = {**os.environ, "PYTHONPATH": str(HERE), "PATH": path}
    command = [str(python), str(HERE / "peers" / f"with_{peer}.py"), *arguments]
    try:
        return subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=PEER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"not done in {PEER_SECONDS} s")


def _seconds(printed: str) -> dict[str, float]:
    """What a peer's script printed: ``exported 2.1``, ``quantized 6.4``."""
    rows = [line.split() for line in printed.splitlines()]
    return {row[0]: float(row[1]) for row in rows if len(row) == 2 and row[0] in ("exported", "quantized")}


def _made(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    write(partial)
    os.replace(partial, path)
    path.with_suffix(f"{path.suffix}.json").write_text(json.dumps({"exported": round(time.perf_counter() - start, 3)}))


def opened(path: Path, threads: int = 1) -> Artifact:
    """A file in its runtime. It may be a stranger's, without a manifest: images whose channels come last are told by their shape."""
    target = table.target_of(path)
    session = table.runner(target).load(path, threads)
    inputs = [replace(port, axes=(0, 2, 3, 1)) if len(port.shape) == 4 and port.shape[3] == 3 else port for port in session.inputs]
    return Artifact(path, target.name, session, inputs)


def counted(artifact: Artifact) -> int:
    """How many operators a runtime runs for a file."""
    return sum(artifact.session.operators().operators.values())
