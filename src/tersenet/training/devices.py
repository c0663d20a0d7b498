"""Where a network is trained: one process by itself, or, for mixed precision and several processes, Lightning Fabric."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tersenet.errors import MissingDependencyError, RecipeError
from tersenet.training.options import Training

_FABRIC: Mapping[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_TYPES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Machine(Protocol):
    """What the loop needs to know of devices, precision and processes."""

    device: torch.device
    rank: int

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        """The module that a batch goes through, and the optimizer that takes its steps."""

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss."""

    def clip(self, module: nn.Module, optimizer: Any, norm: float) -> None:
        """Scale all gradients together down to a norm."""

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes."""

    def agreed(self, value: Any) -> Any:
        """What the first process says."""

    def state(self) -> dict[str, Any]:
        """The scale of losses of fp16."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take it back."""


class Alone:
    """One process, float32: torch by itself."""

    rank = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return module, optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, module: nn.Module, optimizer: Any, norm: float) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), norm)

    def mean(self, value: Tensor) -> Tensor:
        return value

    def agreed(self, value: Any) -> Any:
        return value

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing was kept."""


class Woven:
    """Lightning Fabric."""

    def __init__(self, fabric: Any) -> None:
        self.fabric = fabric
        self.device = fabric.device
        self.rank = fabric.global_rank

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        return self.fabric.setup(module, optimizer, move_to_device=False)

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def clip(self, module: nn.Module, optimizer: Any, norm: float) -> None:
        self.fabric.clip_gradients(module, optimizer, max_norm=norm, error_if_nonfinite=False)

    def mean(self, value: Tensor) -> Tensor:
        return self.fabric.all_reduce(value, reduce_op="mean")

    def agreed(self, value: Any) -> Any:
        return self.fabric.broadcast(value)

    def state(self) -> dict[str, Any]:
        return dict(self.fabric.strategy.precision.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self.fabric.strategy.precision.load_state_dict(state)


def device_for(how: Training) -> str:
    """cpu or cuda.

    Raises:
        RecipeError: a GPU is asked for and none is there, or fp16 without one.
    """
    there = torch.cuda.is_available()
    if how.device == "cuda" and not there:
        raise RecipeError("device cuda needs a GPU that this torch can use, and there is none; take cpu or auto.")
    device = "cuda" if there and how.device != "cpu" else "cpu"
    if how.precision == "fp16" and device == "cpu":
        raise RecipeError("precision fp16 needs a GPU; take bf16 or float32 on a CPU.")
    return device


def machine_for(how: Training) -> Machine:
    """The machine of one process.

    Raises:
        RecipeError: as `device_for`.
        MissingDependencyError: mixed precision without Lightning Fabric.
    """
    device = device_for(how)
    return Alone(torch.device(device)) if how.precision == "float32" else Woven(fabric_for(how, device))


def set_seed(seed: int, device: torch.device) -> None:
    """Set the random numbers of a device anew, to those of `torch.manual_seed`, which on a CPU takes half a millisecond: it writes a stack for each
    kind of device that is not there."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def mixed(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The precision of a training, for what is computed beside the network that learns, which its machine computes so by itself."""
    return torch.autocast(device.type, dtype=_TYPES.get(precision), enabled=precision in _TYPES)


def fabric_for(how: Training, device: str) -> Any:
    """Lightning Fabric, set up as the options say."""
    try:
        from lightning_fabric import Fabric
    except ModuleNotFoundError as error:
        asked = f"{how.processes} processes" if how.processes > 1 else f"precision {how.precision}"
        raise MissingDependencyError(f"training with {asked} needs Lightning Fabric: pip install 'tersenet[train]'") from error
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # it announces what it does
    strategy = "ddp_fork" if how.processes > 1 else "auto"
    return Fabric(accelerator=device, devices=how.processes, strategy=strategy, precision=_FABRIC[how.precision])
