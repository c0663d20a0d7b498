"""A network of two inputs, one of them int64 tokens: an embedding beside plain numbers. The labels are real-valued.

python examples/several_inputs.py [FOLDER]
"""

import sys

import numpy as np
import torch
from torch import nn

import tersenet as tn
from tersenet.report.text import show

WORDS, LENGTH, NUMBERS = 200, 12, 4


class TextAndNumbers(nn.Module):
    """Tokens (n, 12) and numbers (n, 4) to one score (n, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.words = nn.Linear(LENGTH * 16, 32)
        self.numbers = nn.Linear(NUMBERS, 32)
        self.head = nn.Linear(64, 1)

    def forward(self, tokens: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        words = torch.relu(self.words(self.embedding(tokens).flatten(1)))
        return self.head(torch.cat([words, torch.relu(self.numbers(numbers))], dim=1))


def samples(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Inputs by name, and what is to be predicted: how heavy the words are, times one of the numbers, plus another."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, WORDS, (count, LENGTH))
    numbers = generator.normal(size=(count, NUMBERS)).astype(np.float32)
    target = (tokens / WORDS).mean(1) * 4 + numbers[:, 0] - 0.5 * numbers[:, 1]
    return {"tokens": tokens, "numbers": numbers}, target.astype(np.float32)[:, None]


def trained() -> nn.Module:
    torch.manual_seed(0)
    network = TextAndNumbers()
    inputs, target = samples(4096, seed=0)
    tokens, numbers, wanted = torch.from_numpy(inputs["tokens"]), torch.from_numpy(inputs["numbers"]), torch.from_numpy(target)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(15):
        for chosen in torch.randperm(len(wanted)).split(128):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(tokens[chosen], numbers[chosen]), wanted[chosen]).backward()
            optimizer.step()
    return network.eval()


def main(folder: str = "runs/several-inputs") -> None:
    inputs, _ = samples(2, seed=1)
    model = tn.load(trained(), {name: torch.from_numpy(array) for name, array in inputs.items()})
    data = tn.Data.from_arrays(calibration=samples(256, seed=2)[0], evaluation=samples(1000, seed=3), task="regression", name="words and numbers")
    report = tn.compress(model, data, to=["onnxruntime", "litert"], out=folder)
    show(report)

    asked, _ = samples(3, seed=4)
    print("float       ", model(asked).ravel())
    for target, artifact in report.artifacts.items():
        print(f"{target:12}", artifact(asked).ravel())


if __name__ == "__main__":
    main(*sys.argv[1:2])
