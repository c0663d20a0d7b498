"""Counting a network's cost from its shapes, against counts by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tersenet.graph.cost import cost
from tersenet.graph.trace import trace

torch.set_num_threads(1)


class ResNet8(nn.Module):
    """MLPerf Tiny's image classifier: 78,666 parameters, 12,501,632 multiply-accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.stacks = nn.ModuleList()
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            parts = [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)]
            self.stacks.append(nn.ModuleList(parts + ([nn.Conv2d(inputs, outputs, 1, stride)] if stride > 1 else [])))
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        for stack in self.stacks:
            y = stack[3](stack[2](F.relu(stack[1](stack[0](x)))))
            x = F.relu(y + (stack[4](x) if len(stack) > 4 else x))
        return self.head(x.mean((2, 3)))


def test_resnet8_has_the_published_figures():
    counted = cost(trace(ResNet8(), (torch.zeros(1, 3, 32, 32),)))
    assert counted.parameters == 78_666
    assert counted.macs == 12_501_632
    assert counted.float_bytes == 314_664
    assert sum(share.macs for share in counted.nodes.values()) == counted.macs
    assert counted.bytes_moved == sum(share.bytes_moved for share in counted.nodes.values())


def test_shares_of_single_operators():
    module = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    counted = cost(trace(module, (torch.zeros(1, 4, 8, 8),))).nodes
    assert counted["conv2d"].macs == 8 * 36 * 2 * 9
    assert counted["conv2d"].parameters == 8 * 2 * 9
    assert counted["conv2d"].bytes_moved == 4 * (4 * 64 + 8 * 36 + 8 * 2 * 9)
    assert (counted["relu"].macs, counted["relu"].bytes_moved) == (0, 4 * 2 * 8 * 36)
    assert counted["flatten"].bytes_moved == 0
    assert counted["linear"].macs == 8 * 36 * 5


class Matmul(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b.transpose(1, 2)


class Einsum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...ij,jk->...ik", a, b)


class Attention(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v)


zeros = torch.zeros


@pytest.mark.parametrize(
    "module, example, macs",
    [
        (nn.Conv1d(4, 6, 3), (zeros(1, 4, 9),), 6 * 7 * 4 * 3),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, dilation=1), (zeros(1, 4, 5, 5),), 4 * 25 * 9),
        (nn.Conv3d(2, 3, 2), (zeros(1, 2, 3, 3, 3),), 3 * 8 * 2 * 8),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (zeros(1, 4, 5),), 4 * 5 * 3 * 3),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (zeros(1, 4, 3, 3),), 4 * 9 * 6 * 4),
        (nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True), (zeros(1, 9, 5),), 9 * 2 * 24 * (5 + 6 + 12 + 6)),
        (nn.GRU(5, 6, batch_first=True), (zeros(1, 9, 5),), 9 * 18 * (5 + 6)),
        (Matmul(), (zeros(1, 3, 4), zeros(1, 5, 4)), 3 * 5 * 4),
        (Einsum(), (zeros(1, 2, 4, 5), zeros(5, 6)), 2 * 4 * 5 * 6),
        (Attention(), (zeros(1, 2, 3, 4), zeros(1, 2, 5, 4), zeros(1, 2, 5, 6)), 2 * 3 * 5 * (4 + 6)),
        (nn.Embedding(20, 8), (zeros(1, 9, dtype=torch.int64),), 0),
    ],
)
def test_multiply_accumulates_by_hand(module, example, macs):
    counted = cost(trace(module, example))
    assert counted.macs == macs


def test_an_open_length_counts_as_in_the_example():
    module = nn.LSTM(5, 6, batch_first=True)
    assert cost(trace(module, (zeros(2, 11, 5),), dynamic={"input": {1: "length"}})).macs == 11 * 24 * (5 + 6)


def test_a_fixed_batch_is_counted_for_one_sample():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.view(4, -1))

    model = trace(Fixed(), (zeros(4, 2, 3),))
    assert model.fixed_batch
    assert cost(model).macs == 6 * 5


def test_an_embedding_reads_only_its_rows():
    counted = cost(trace(nn.Embedding(2000, 8), (zeros(1, 9, dtype=torch.int64),)))
    assert counted.bytes_moved == 9 * 8 + 9 * 8 * 4
    assert counted.parameters == 16_000


def test_shared_weights_count_once():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    counted = cost(trace(Twice(), (zeros(1, 4),)))
    assert (counted.parameters, counted.macs) == (16, 32)
