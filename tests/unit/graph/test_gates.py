"""What the arguments of a recurrent operator are."""

import pytest
import torch
from torch import nn

from tersenet.graph.deploy import deployable
from tersenet.graph.gates import cells, keeps_states_to_itself, matrices
from tersenet.graph.operators import kind_of
from tersenet.graph.trace import trace
from tersenet.graph.walk import argument, calls, set_argument


class Layer(nn.Module):
    def __init__(self, read: int = 0, start: float = 0.0, **options) -> None:
        super().__init__()
        self.layer, self.read = nn.LSTM(5, 6, batch_first=True, **options), read
        self.register_buffer("start", torch.full((self.layer.num_layers * (1 + self.layer.bidirectional), 1, 6), start))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = self.start.expand(-1, x.shape[0], -1)
        result, (_, cell) = self.layer(x) if self.layer.proj_size else self.layer(x, (state, state))
        return cell[-1] if self.read else result


def operator(**options):
    module = deployable(trace(Layer(**options), (torch.randn(2, 4, 5),), name="layer"))
    return module, next(node for node in calls(module) if kind_of(node) == "lstm")


def test_cells_in_order() -> None:
    _, node = operator(num_layers=2, bidirectional=True)
    found = cells(node)
    assert [cell.input for cell in found] == [0, 4, 8, 12]
    assert [cell.backwards for cell in found] == [False, True, False, True]
    assert found[1].biases == (6, 7) and found[1].projection is None


def test_a_projection_is_a_matrix_of_one_gate() -> None:
    _, node = operator(bias=False, proj_size=3)
    assert [(matrix.name, matrix.gates) for matrix in matrices(node)] == [("params.0", 4), ("params.1", 4), ("params.2", 1)]


@pytest.mark.parametrize("options, answer", [({}, True), ({"start": 0.5}, False), ({"read": 1}, False)])
def test_states_that_nobody_else_sees(options: dict, answer: bool) -> None:
    assert keeps_states_to_itself(*operator(**options)) is answer


def test_an_argument_within_a_list() -> None:
    _, node = operator()
    other = argument(node, "params.1")
    set_argument(node, "params.0", other)
    assert argument(node, "params.0") is other and argument(node, "params.1") is other
    assert argument(node, "num_layers") == 1
