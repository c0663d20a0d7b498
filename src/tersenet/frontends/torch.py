"""Torch modules, and weights to load into them."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tersenet.errors import MissingDependencyError, ModelError, UntrustedError
from tersenet.frontend import Reading
from tersenet.graph.explain import first_line
from tersenet.graph.trace import trace
from tersenet.model import Model

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")


class TorchFrontend:
    """A torch module with example inputs, given beside it or in its attribute ``example_inputs``; trusted pickles of one."""

    def accepts(self, source: Any) -> bool:
        return isinstance(source, torch.nn.Module) or (isinstance(source, Path) and source.suffix.lower() in PICKLES)

    def read(self, source: torch.nn.Module | Path, reading: Reading) -> Model:
        if isinstance(source, Path):
            return self.read(_unpickled(source, reading.trust), replace(reading, name=reading.name or source.stem))
        source = _unwrapped(source)
        if isinstance(source, torch.jit.ScriptModule):
            raise ModelError("a TorchScript module hides its operators; build the network from its Python class and load its weights.")
        inputs = reading.example_inputs if reading.example_inputs is not None else getattr(source, "example_inputs", None)
        name = reading.name or type(source).__name__
        if inputs is None:
            raise ModelError(
                f"{name} needs example inputs: give them beside it (tersenet.load(module, example_inputs)), or set its attribute example_inputs, "
                "a tuple such as (torch.zeros(1, 3, 32, 32),); on the command line file.py:name, a function that returns (module, example inputs)."
            )
        if reading.weights:
            source = with_weights(source, reading.weights)
        return trace(source, inputs, name=name, dynamic=reading.dynamic, handed_over=bool(reading.weights))


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The network inside ``torch.compile`` and data parallelism, whose names would stand before those of its parameters."""
    while True:
        if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(getattr(module, "_orig_mod", None), torch.nn.Module):
            module = module._orig_mod  # type: ignore[assignment]
        else:
            return module


def _unpickled(path: Path, trust: bool) -> torch.nn.Module:
    if not trust:
        raise UntrustedError(
            f"{path} is a pickle, which runs code when it is opened. If it holds a whole network and you trust where it comes from, --trust opens "
            f"it; if it holds weights (a state_dict), name the function that builds their network: file.py:name --weights {path}."
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle raises anything
        raise ModelError(f"{path} cannot be opened by torch.load: {first_line(error)}") from error
    if not isinstance(found, torch.nn.Module):
        raise ModelError(
            f"{path} holds a {type(found).__name__}, not a network; name the function that builds one, and give this file as its weights: "
            f"file.py:name --weights {path}."
        )
    return found


def with_weights(module: torch.nn.Module, path: str) -> torch.nn.Module:
    """A copy of a module with the weights of a ``.safetensors`` file, or of a ``.pt`` that holds nothing but tensors.

    Args:
        module: stays as it is.

    Raises:
        ModelError: the file cannot be read, or its names or shapes are not the module's.
    """
    state, own = _read_state(Path(path)), module.state_dict(keep_vars=True)
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    if missing or unexpected:
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''})"
            for what, keys in (("missing", missing), ("not in the network", unexpected))
            if keys
        ]
        raise ModelError(f"{path} must hold the weights of {type(module).__name__} by name: {', and '.join(parts)}.")
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise ModelError(f"{path}: {key} must have the shape {tuple(own[key].shape)}, got {tuple(tensor.shape)}.")
    return _loaded(module, own, state)


def _loaded(module: torch.nn.Module, own: dict[str, Any], state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A copy with the weights of a file in the stead of a second set of the module's own, for memory's sake."""
    held = {id(tensor) for tensors in (module.parameters(), module.buffers()) for tensor in tensors}
    replaced = [own[key] for key in state]
    if not held.issuperset(map(id, replaced)):  # the module's state is not its tensors but made of them
        loaded = copy.deepcopy(module)
        loaded.load_state_dict(state, strict=False)
        return loaded
    loaded = copy.deepcopy(module, {id(tensor): copy.copy(tensor) for tensor in replaced})  # the same numbers, not yet others
    tensors = loaded.state_dict(keep_vars=True)
    for key in list(state):
        tensors[key].data = state.pop(key).to(tensors[key].dtype)
    return loaded


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"the file of weights {path} does not exist.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path, backend="pread")  # not mapped: the file may change while the network is at work
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says of a foreign pickle what the error below says
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"reading {path} needs safetensors: pip install 'tersenet[torch]'") from error
    except Exception as error:  # torch.load and safetensors raise several kinds for a torn file
        raise ModelError(
            f"{path} cannot be read as weights: it must be a .safetensors file, or a .pt that holds a dict of tensors and nothing else."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()):
        raise ModelError(f"{path} must hold a dict of tensors by name.")
    return state
