"""How large the files are: ours beside the peers', and beside what no file can do without (int8 weights, int32 biases, scales)."""

from __future__ import annotations

from pathlib import Path

from setting import files, networks
from setting.results import Results

from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, calls, constant

NETWORKS = ("mobilenet_v2", "resnet32", "resnet8")
AGAINST_LEAST = {"onnxruntime": 1.08, "litert": 1.09}
AGAINST_PEER = {"onnxruntime": 1.0, "litert": 1.0, "executorch": 1.02}


def least_bytes(name: str) -> int:
    """int8 weights, an int32 bias and a float32 scale for each channel of every layer with weights."""
    module, total = deployable(files.loaded(name)), 0
    for node in calls(module):
        if kind_of(node) in ("conv2d", "depthwise_conv2d", "linear"):
            weight = constant(module, bind(node)["weight"])
            total += weight.numel() + 8 * weight.shape[0]
    return total


def main() -> None:
    results = Results("bytes", ("network", "target", "against"))
    for name in NETWORKS:
        least = least_bytes(name)
        for target, limit in AGAINST_LEAST.items():
            size = files.ours(name, target).stat().st_size
            # the figure is asked of these two; a network as small as the third is mostly names and shapes
            limits = {"limit": limit} if name != "resnet8" else {}
            results.put(network=name, target=target, against="least", bytes=size, other_bytes=least, value=round(size / least, 4), **limits)
        for target in files.TARGETS:
            compare(results, name, target, "float twin", files.ours(name, target, integers=False))
        for peer, row in files.PEERS.items():
            compare(results, name, row.target, peer, files.theirs(name, peer), AGAINST_PEER[row.target])


def compare(results: Results, name: str, target: str, against: str, other: Path | None, limit: float | None = None) -> None:
    """One row: our file beside another."""
    if other is None:
        print(f"{name}: {against} is not installed or failed (see .bench/files/{name})")
        return
    size, other_size = files.ours(name, target).stat().st_size, other.stat().st_size
    limits = {"limit": limit} if limit else {}
    results.put(network=name, target=target, against=against, bytes=size, other_bytes=other_size, value=round(size / other_size, 4), **limits)


if __name__ == "__main__":
    networks.torch.set_num_threads(1)
    main()
