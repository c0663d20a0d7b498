"""What a plain epoch of ours costs over a hand-written torch loop: the same network, arrays, batches and optimizer, in turn.

Seconds are the processor's (one thread: the wall's on a machine that does nothing else); the wall's ratio stands beside.
A block is some steps of the one loop, then as many of the other; which comes first changes from block to block, and the
figure is the median of the blocks' ratios, so that whatever else the machine does hits both alike.
Rows that are in the results already are left: take the file away to measure anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from setting import networks
from setting.results import Results
from torch import nn

import tersenet
from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part
from tersenet.data.tasks import ACCURACY
from tersenet.demo import DigitsNetwork
from tersenet.graph.training import trainable
from tersenet.training.loop import Lesson, train
from tersenet.training.objective import objective_for
from tersenet.training.options import Training

# Network -> its maker, the shape of a sample, samples in a block, blocks.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "resnet8": (networks.BUILDERS["resnet8"], (3, 32, 32), 1024, 20),
    "digits": (DigitsNetwork, (1, 8, 8), 2048, 40),
}
BATCH, RATE, LIMIT = 64, 0.01, 1.05


def main() -> None:
    torch.set_num_threads(1)
    results = Results("training", ("figure", "network"))
    for name in CASES:
        if not results.has(figure="plain epoch", network=name):
            measure(results, name)


def measure(results: Results, name: str) -> None:
    maker, shape, count, blocks = CASES[name]
    torch.manual_seed(0)
    network = maker()
    images, labels = np.random.default_rng(0).standard_normal((count, *shape), np.float32), np.random.default_rng(1).integers(0, 10, count)
    model = tersenet.load(network, (torch.zeros(2, *shape),))
    network.train()
    loops = [hand_written(network, images, labels), ours(model, images, labels)]
    for loop in loops:
        loop(0)
    pairs = np.array([in_turn(loops, block) for block in range(blocks)])
    ratios = np.median(pairs[:, 1] / pairs[:, 0], axis=0)
    low, high = np.percentile(pairs[:, 1, 0] / pairs[:, 0, 0], [10, 90])
    results.put(
        figure="plain epoch",
        network=name,
        samples=count,
        batch=BATCH,
        blocks=blocks,
        hand_written_seconds=round(float(np.median(pairs[:, 0, 0])), 3),
        ours_seconds=round(float(np.median(pairs[:, 1, 0])), 3),
        value=round(float(ratios[0]), 3),
        p10_p90=[round(float(low), 3), round(float(high), 3)],
        wall_value=round(float(ratios[1]), 3),
        limit=LIMIT,
    )


def in_turn(loops: list[Callable[[int], None]], block: int) -> list[tuple[float, float]]:
    """Seconds of both loops on one epoch, the hand-written one's first, whichever ran first."""
    found: dict[int, tuple[float, float]] = {}
    for place in (0, 1) if block % 2 else (1, 0):
        process, wall = time.process_time(), time.perf_counter()
        loops[place](block)
        found[place] = (time.process_time() - process, time.perf_counter() - wall)
    return [found[0], found[1]]


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


def ours(model: tersenet.Model, images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """The same epoch through the loop."""
    part = Part((images,), labels, preparation=(Preparation(),))
    module, objective = trainable(model), objective_for(ACCURACY)
    how = Training(epochs=1, batch_size=BATCH, optimizer="sgd", momentum=0.9, learning_rate=RATE, schedule="constant", device="cpu")

    def epoch(number: int) -> None:
        train(Lesson(module, objective, part, how, model.inputs, seed=number))

    return epoch


if __name__ == "__main__":
    main()
