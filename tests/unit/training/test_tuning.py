"""What steps call: another network in the model's stead, another objective, and what training is known by."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tersenet.graph.training import trainable
from tersenet.graph.walk import outputs
from tersenet.step import Context
from tersenet.store import Store
from tersenet.testing.networks import samples, small_convolutional
from tersenet.testing.step import _data
from tersenet.training.objective import loss_for
from tersenet.training.options import Training
from tersenet.training.tuning import tuned

HOW = Training(epochs=2, batch_size=32)


def test_an_objective_that_wraps_the_tasks_own_and_looks_inside() -> None:
    """A teacher, an inner value as a further output, and a parameter of its own: what distillation and quantization ask for."""
    model, teacher = small_convolutional(), small_convolutional(seed=4)
    module = trainable(model)
    inner = next(node for node in module.graph.nodes if node.name == "relu")
    end = next(node for node in module.graph.nodes if node.op == "output")
    end.args = ((*outputs(module), inner),)
    module.recompile()
    module.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    task = loss_for(_data().task)

    def objective(network: nn.Module, inputs: tuple[torch.Tensor, ...], labels: torch.Tensor | None) -> torch.Tensor:
        scores, inside = network(*inputs)
        with torch.no_grad():
            (wanted,) = teacher.graph(*inputs)
        return task(scores, labels) + nn.functional.mse_loss(module.scale * scores, wanted) + 1e-3 * inside.mean()

    found, outcome = tuned(model, Context((), _data()), HOW, objective=objective, module=module)
    assert outcome.history[-1].loss < outcome.history[0].loss
    assert outcome.history[-1].metric is not None
    assert found.graph.state_dict().keys() == model.graph.state_dict().keys()
    assert float(module.scale.detach()) != 1.0
    assert torch.equal(found.graph.get_parameter("head.weight"), module.get_parameter("head.weight"))
    assert found(samples(3)).shape == (3, 5)


def test_what_else_the_outcome_depends_on_is_part_of_its_key(tmp_path: Path) -> None:
    context = Context((), _data(), store=Store(tmp_path))
    for also in ("one teacher", "another"):
        tuned(small_convolutional(), context, HOW, also=also)
    assert len(list(tmp_path.glob(".draft-*"))) == 2
