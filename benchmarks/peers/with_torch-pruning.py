"""NETWORK SHARE OUT: Torch-Pruning takes channels out until SHARE of the multiply-accumulates is gone; OUT is the network, a .pt2.

The channels are those within blocks: the ones that shortcuts tie stay, as padded shortcuts cannot lose any. Group L2 norms, the same
ratio of every layer.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch_pruning
from setting import networks


def pruned(name: str, ratio: float) -> torch.nn.Module:
    network = networks.load(name)
    within = {block.conv1 for block in network.modules() if isinstance(block, networks.Block)}
    ignored = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and layer not in within]
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    torch_pruning.pruner.BasePruner(network, networks.example(name), importance=importance, pruning_ratio=ratio, ignored_layers=ignored).step()
    return network


def main(name: str, share: str, out: str) -> None:
    whole, _ = torch_pruning.utils.count_ops_and_params(networks.load(name), networks.example(name))
    ratio = 0.0
    while ratio < 0.99:
        ratio += 0.01
        network = pruned(name, ratio)
        macs, _ = torch_pruning.utils.count_ops_and_params(network, networks.example(name))
        if macs <= (1 - float(share)) * whole:
            break
    batch = torch.export.Dim("batch", max=1 << 20)
    program = torch.export.export(network.eval(), (networks.example(name).repeat(2, 1, 1, 1),), dynamic_shapes=({0: batch},))
    torch.export.save(program, out)
    print("ratio", round(ratio, 2), "macs", macs, "of", whole)


if __name__ == "__main__":
    main(*sys.argv[1:])
