"""What a network learns to make small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tersenet.errors import RecipeError, TersenetError

if TYPE_CHECKING:
    from tersenet.data.parts import Data
    from tersenet.data.tasks import Task
    from tersenet.training.loop import Judge

# (network, inputs, labels or None) -> the loss, a mean over the batch. Distillation is one that wraps another.
Objective = Callable[[nn.Module, tuple[Tensor, ...], Tensor | None], Tensor]
Loss = Callable[[Any, Any], Tensor]


@runtime_checkable
class Judging(Protocol):
    """An objective that can tell a better network from a worse one where no labels do."""

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor | None) -> Tensor:
        """The loss."""

    def judge(self, data: Data) -> Judge | None:
        """What judges on the selection part; None where that is empty."""


ONE_NUMBER = "a loss must be a function of (outputs, labels), both tensors, that returns a tensor of one number"
# Below it a probability is taken for it: its logarithm stays a number of float32.
SMALLEST = 1e-30


def held_loss(loss: Loss | None) -> Loss | None:
    """A user's own loss, held to what training takes; None where there is none.

    Raises (what is returned does):
        RecipeError: it fails, returns no tensor of one number, or one that does not come of the outputs.
    """
    if loss is None:
        return None

    def held(outputs: Any, labels: Any) -> Tensor:
        try:
            found = loss(outputs, labels)
        except (TersenetError, MemoryError):
            raise
        except Exception as error:  # a user's own function may raise anything
            raise RecipeError(f"{ONE_NUMBER}; it failed: {type(error).__name__}: {error}") from error
        if not isinstance(found, Tensor) or found.numel() != 1:
            got = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise RecipeError(f"{ONE_NUMBER}, such as (outputs - labels).square().mean(); it returned {got}.")
        if torch.is_grad_enabled() and not found.requires_grad:
            raise RecipeError(
                f"{ONE_NUMBER} that comes of the outputs by torch's own functions; this one does not, so nothing can be learned from it."
            )
        return found.reshape(())

    return held


def objective_for(task: Task, ending: str = "scores", label_smoothing: float = 0.0, loss: Loss | None = None) -> Objective:
    """The objective that goes with a task: its loss of the network's outputs. Arguments and errors as `loss_for`, and:

    Args:
        loss: a function of (outputs, labels) instead, for other tasks; outputs is a tensor, or a tuple where there are several.
    """
    if loss is not None and label_smoothing:
        raise RecipeError("label_smoothing goes with the usual loss of classification, and a loss of its own was given; smooth there.")
    chosen = loss or loss_for(task, ending, label_smoothing)
    return lambda network, inputs, labels: chosen(_outputs(network(*inputs)), labels)


def loss_for(task: Task, ending: str = "scores", label_smoothing: float = 0.0) -> Loss:
    """The loss that goes with a task.

    Classification: cross entropy, of two classes in one output the binary one. Regression: the mean of squared errors.

    Args:
        task: what the data are for.
        ending: what the network's output is (`tersenet.graph.training.ending`).
        label_smoothing: share of a label that is spread over all classes (Szegedy et al. 2016, section 7).

    Raises:
        RecipeError: the task has no loss of its own, or smoothing is asked where there are no classes.
    """
    if label_smoothing and task.kind != "classification":
        raise RecipeError(f"label_smoothing is for classification, and the task is {task.name}; leave it out.")
    if task.kind == "classification":
        spelled = SPELLED[ending]
        return lambda outputs, labels: classification(_single(outputs), labels, spelled, label_smoothing)
    if task.kind == "regression":
        return lambda outputs, labels: regression(_single(outputs), labels)
    raise RecipeError(f"the task {task.name} has no loss to train with; give one: tersenet.fit(..., loss=function of outputs and labels).")


def classification(outputs: Tensor, labels: Any, scores: Callable[[Tensor], Tensor], smoothing: float = 0.0) -> Tensor:
    """Cross entropy.

    Args:
        outputs: (n, classes), (n, classes, ...) or (n, ..., classes); (n,) or (n, 1) for two classes.
        labels: (n, ...) whole numbers.
        scores: from outputs to logits; it is told that there is one output a label by its own kind.
        smoothing: share spread over all classes.
    """
    labels = labels.long()
    if outputs.shape == labels.shape or outputs.shape == (*labels.shape, 1):
        wanted = labels.to(outputs.dtype) * (1 - smoothing) + 0.5 * smoothing
        return functional.binary_cross_entropy_with_logits(scores(outputs).reshape(labels.shape).float(), wanted.float())
    if outputs.dim() > labels.dim() + 1:  # (n, classes, 1, 1)
        outputs = outputs.reshape(len(outputs), *(size for size in outputs.shape[1:] if size != 1))
    if outputs.dim() > 2 and outputs.shape[:-1] == labels.shape:
        outputs = outputs.movedim(-1, 1)
    return functional.cross_entropy(scores(outputs).float(), labels, label_smoothing=smoothing)


def regression(outputs: Tensor, labels: Any) -> Tensor:
    """The mean of squared errors, labels in the shape of the outputs."""
    return functional.mse_loss(outputs.float(), labels.to(torch.float32).reshape(outputs.shape))


# From what a network's output is to logits: logarithms of probabilities are such; of one probability p, log(p / (1 - p)).
SPELLED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "scores": lambda outputs: outputs,
    "probabilities": lambda outputs: outputs.float().clamp_min(SMALLEST).log(),
    "probability": lambda outputs: torch.logit(outputs.float(), eps=1e-7),
}


def _outputs(results: Any) -> Any:
    return results[0] if isinstance(results, tuple | list) and len(results) == 1 else results


def _single(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise RecipeError(f"this network has {len(outputs)} outputs; say what it learns: tersenet.fit(..., loss=function of outputs and labels).")
    return outputs
