"""What a plain epoch of ours costs over a hand-written torch loop, one with distillation over a plain one and the teacher's forward passes, and one
with simulated integers over a plain one.

The same network, arrays, batches and optimizer, in turn; the teacher is a network of the same kind, so that it costs what a student can at most.
Seconds are the processor's (one thread: the wall's on a machine that does nothing else); the wall's ratio stands beside.
A block is some steps of each loop; which comes first changes from block to block, and the figure is the median of the
blocks' ratios, so that whatever else the machine does hits all alike.
Rows that are in the results already are left: take the file away to measure anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from setting import networks
from setting.results import Results
from torch import nn

import tersenet
from tersenet import Quantize
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part
from tersenet.data.tasks import ACCURACY
from tersenet.demo import DigitsNetwork
from tersenet.graph.aware import aware as aware_network
from tersenet.graph.training import trainable
from tersenet.step import Context
from tersenet.targets.litert.capabilities import capabilities
from tersenet.training.distillation import distilled
from tersenet.training.loop import Lesson, train
from tersenet.training.methods import Distillation
from tersenet.training.objective import Objective, objective_for
from tersenet.training.options import Training

# Network -> its maker, the shape of a sample, samples in a block, blocks.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "resnet8": (networks.BUILDERS["resnet8"], (3, 32, 32), 1024, 20),
    "digits": (DigitsNetwork, (1, 8, 8), 2048, 40),
}
BATCH, RATE = 64, 0.01
LIMIT, DISTILLED_LIMIT, AWARE_LIMIT = 1.05, 1.15, 1.8  # of the ratios


def main() -> None:
    torch.set_num_threads(1)
    results = Results("training", ("figure", "network"))
    for name in CASES:
        for figure, measured in (("plain epoch", plain), ("distilled epoch", distilling), ("aware epoch", aware)):
            if not results.has(figure=figure, network=name):
                results.put(figure=figure, network=name, **measured(name))


def plain(name: str) -> dict[str, Any]:
    """Ours over the hand-written loop."""
    network, model, images, labels = made(name)
    seconds = in_turn([hand_written(network, images, labels), ours(model, images, labels)], name)
    return summary(name, seconds[:, 1], seconds[:, 0], LIMIT, hand_written_seconds=seconds[:, 0], ours_seconds=seconds[:, 1])


def distilling(name: str) -> dict[str, Any]:
    """With the soft labels of a teacher, over a plain epoch and the teacher's forward passes together."""
    _, model, images, labels = made(name)
    teacher = made(name, seed=1)[1]
    objective = distilled(Distillation(), teacher, model, ACCURACY)
    seconds = in_turn([ours(model, images, labels), forward(teacher, images), ours(model, images, labels, objective)], name)
    parts = {"plain_seconds": seconds[:, 0], "teacher_seconds": seconds[:, 1], "distilled_seconds": seconds[:, 2]}
    return summary(name, seconds[:, 2], seconds[:, 0] + seconds[:, 1], DISTILLED_LIMIT, **parts)


def aware(name: str) -> dict[str, Any]:
    """With weights and values on grids that learn, batch norm alive as in the first half of training, over a plain epoch."""
    _, model, images, labels = made(name)
    data = tersenet.Data.from_arrays(calibration=images[:64]).bind(model.inputs)
    table = capabilities()
    plan = Quantize().apply(model, Context((table,), data)).model.plans[0]
    named = replace(plan, values={value: replace(encoding, shared=encoding.shared or value) for value, encoding in plan.values.items()}, offsets={})
    module = aware_network(model, named, "steps").module
    seconds = in_turn([ours(model, images, labels), ours(model, images, labels, module=module)], name)
    return summary(name, seconds[:, 1], seconds[:, 0], AWARE_LIMIT, plain_seconds=seconds[:, 0], aware_seconds=seconds[:, 1])


def made(name: str, seed: int = 0) -> tuple[nn.Module, tersenet.Model, np.ndarray, np.ndarray]:
    """The network of a case, its model, images and labels."""
    maker, shape, count, _ = CASES[name]
    torch.manual_seed(seed)
    network = maker()
    images, labels = np.random.default_rng(0).standard_normal((count, *shape), np.float32), np.random.default_rng(1).integers(0, 10, count)
    model = tersenet.load(network, (torch.zeros(2, *shape),))
    return network.train(), model, images, labels


def summary(name: str, ours: np.ndarray, other: np.ndarray, limit: float, **parts: np.ndarray) -> dict[str, Any]:
    """A row of (blocks, 2) seconds, the processor's and the wall's: the ratio, and the medians of its parts."""
    ratios = ours / other
    low, high = np.percentile(ratios[:, 0], [10, 90])
    return {
        "samples": CASES[name][2],
        "batch": BATCH,
        "blocks": len(ratios),
        **{part: round(float(np.median(seconds[:, 0])), 3) for part, seconds in parts.items()},
        "value": round(float(np.median(ratios[:, 0])), 3),
        "p10_p90": [round(float(low), 3), round(float(high), 3)],
        "wall_value": round(float(np.median(ratios[:, 1])), 3),
        "limit": limit,
    }


def in_turn(loops: list[Callable[[int], None]], name: str) -> np.ndarray:
    """(blocks, loops, 2) seconds of each loop on one epoch, the processor's and the wall's, whichever ran first."""
    for loop in loops:
        loop(0)
    blocks = CASES[name][3]
    found = np.zeros((blocks, len(loops), 2))
    for block in range(blocks):
        for place in np.roll(range(len(loops)), block):
            process, wall = time.process_time(), time.perf_counter()
            loops[place](block)
            found[block, place] = time.process_time() - process, time.perf_counter() - wall
    return found


def hand_written(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """An epoch as anyone would write it."""
    x, y = torch.from_numpy(images), torch.from_numpy(labels)

    def epoch(number: int) -> None:
        optimizer = torch.optim.SGD(network.parameters(), RATE, momentum=0.9)
        for chosen in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()

    return epoch


def forward(model: tersenet.Model, images: np.ndarray) -> Callable[[int], None]:
    """A network's answers to an epoch's batches, and nothing else."""
    batches = torch.from_numpy(images).split(BATCH)

    def epoch(number: int) -> None:
        with torch.no_grad():
            for batch in batches:
                model.graph(batch)

    return epoch


def ours(
    model: tersenet.Model, images: np.ndarray, labels: np.ndarray, objective: Objective | None = None, module: Any = None
) -> Callable[[int], None]:
    """The same epoch through the loop."""
    part = Part((images,), labels, preparation=(Preparation(),))
    module, objective = module or trainable(model), objective or objective_for(ACCURACY)
    how = Training(epochs=1, batch_size=BATCH, optimizer="sgd", momentum=0.9, learning_rate=RATE, schedule="constant", device="cpu")

    def epoch(number: int) -> None:
        train(Lesson(module, objective, part, how, model.inputs, seed=number))

    return epoch


if __name__ == "__main__":
    main()
