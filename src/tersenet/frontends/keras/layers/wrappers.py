"""Layers that run another layer: in both directions of time, or on each step of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import input_shape, title
from tersenet.frontends.keras.layers.recurrent import Fused, Recurrent
from tersenet.frontends.keras.network import takes_masks
from tersenet.frontends.keras.penalties import kept_beside

_MERGE = ("concat", "sum", "mul", "ave")


def merged(forward: Tensor, backward: Tensor, mode: str | None) -> tuple[Tensor, ...]:
    """The results of two directions as one, or both where there is no mode."""
    if mode == "concat":
        return (torch.cat([forward, backward], -1),)
    if mode == "sum":
        return (forward + backward,)
    if mode == "ave":
        return ((forward + backward) / 2,)
    return (forward * backward,) if mode == "mul" else (forward, backward)


class Bidirectional(nn.Module):
    """Two recurrent layers, of which one reads the sequence from its end."""

    def __init__(self, ahead: Recurrent, behind: Recurrent, mode: str | None) -> None:
        super().__init__()
        self.forward_layer, self.backward_layer, self.mode = ahead, behind, mode
        self.sequences, self.states = ahead.sequences, ahead.states
        self.notes = (*ahead.notes, *behind.notes)

    def forward(self, x: Tensor, *states: Tensor, mask: Tensor | None = None) -> Any:
        half = len(states) // 2
        ahead = self.forward_layer(x, *states[:half], mask=mask)
        behind = self.backward_layer(x, *states[half:], mask=mask)
        after: tuple[Tensor, ...] = ()
        if self.states:
            after = (*ahead[1:], *behind[1:])
            ahead, behind = ahead[0], behind[0]
        result = merged(ahead, behind.flip(1) if self.sequences else behind, self.mode)
        return result[0] if len(result) == 1 and not after else (*result, *after)

    def output_mask(self, x: Tensor, *states: Tensor, mask: Any = None) -> Tensor | None:
        return self.forward_layer.output_mask(x, mask=mask)


class FusedBidirectional(nn.Module):
    """Two directions in one sequence operator; with a mask each runs by itself, for the padding of one is the beginning of the other."""

    def __init__(self, ahead: Recurrent, behind: Recurrent, mode: str | None) -> None:
        super().__init__()
        first, second = (part.steps.operator for part in (ahead, behind) if isinstance(part.steps, Fused))
        settings: dict[str, Any] = {"bias": first.bias, "batch_first": True, "bidirectional": True}
        if isinstance(first, nn.RNN):
            settings["nonlinearity"] = "tanh" if first.mode == "RNN_TANH" else "relu"
        with torch.device("meta"):
            operator = type(first)(first.input_size, first.hidden_size, **settings)  # type: ignore[arg-type]
        for name, parameter in first.named_parameters():  # taken over, not copied, for memory's sake
            setattr(operator, name, parameter)
            setattr(operator, f"{name}_reverse", getattr(second, name))
        self.steps, self.mode = Fused(operator), mode
        self.sequences, self.states, self.zeroed = ahead.sequences, ahead.states, ahead.zeroed
        self.notes = tuple(dict.fromkeys((*ahead.notes, *behind.notes)))
        self.kept = kept_beside(ahead)
        self.kept.add(kept_beside(behind), lambda name: f"{name}_reverse")

    def forward(self, x: Tensor, *states: Tensor, mask: Any = None) -> Any:
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        units, kinds = self.steps.operator.hidden_size, len(self.steps.sizes)
        if mask is None:
            begun = [torch.stack([states[kind], states[kinds + kind]]) for kind in range(kinds)] if states else []
            outputs, last = self.steps.direct(x, begun)
            ahead, behind = outputs[..., :units], outputs[..., units:]
            after = [state[direction] for direction in (0, 1) for state in last]
            if not self.sequences:
                ahead, behind = last[0][0], last[0][1]
            elif self.mode == "concat":
                return (outputs, *after) if self.states else outputs
        else:
            ahead, after_ahead = self._direction(x, states[:kinds], mask, "")
            behind, after_behind = self._direction(x.flip(1), states[kinds:], mask.flip(1), "_reverse")
            after = [*after_ahead, *after_behind]
            behind = behind.flip(1) if self.sequences else behind
        result = merged(ahead, behind, self.mode)
        return result[0] if len(result) == 1 and not self.states else (*result, *(after if self.states else ()))

    def _direction(self, x: Tensor, states: tuple[Tensor, ...], mask: Tensor, suffix: str) -> tuple[Tensor, list[Tensor]]:
        outputs, after = self.steps.masked(x, list(states), mask, self.states, suffix)
        if self.zeroed:
            outputs = torch.where(mask.unsqueeze(-1), outputs, 0.0)
        return outputs if self.sequences else outputs[:, -1], after

    def output_mask(self, x: Tensor, *states: Tensor, mask: Any = None) -> Tensor | None:
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        return mask if self.sequences else None


def bidirectional(layer: Layer) -> nn.Module:
    """``Bidirectional``, in one operator where both directions are torch's own."""
    mode = layer.config.get("merge_mode", "concat")
    if mode is not None and mode not in _MERGE:
        raise ModelError(f"merge_mode of {title(layer)} must be one of {', '.join(_MERGE)} or null, got {mode!r}.")
    entry = layer.config.get("layer")
    ahead = _direction(layer, entry, "forward_layer", backwards=False)
    behind = _direction(layer, layer.config.get("backward_layer") or entry, "backward_layer", backwards=True)
    if (ahead.sequences, ahead.states) != (behind.sequences, behind.states):
        raise ModelError(f"the two directions of {title(layer)} must return the same: sequences or last outputs, states or none.")
    operators = [part.steps.operator for part in (ahead, behind) if isinstance(part.steps, Fused)]
    alike = len(operators) == 2 and len({(type(part), part.mode, part.hidden_size, part.bias) for part in operators}) == 1
    if alike and not (ahead.dropout or behind.dropout or ahead.time_major):
        return FusedBidirectional(ahead, behind, mode)
    return Bidirectional(ahead, behind, mode)


def _direction(layer: Layer, entry: Any, attribute: str, *, backwards: bool) -> Recurrent:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ModelError(f"{title(layer)} must hold the configuration of a recurrent layer.")
    config = {**entry["config"], "go_backwards": backwards}
    config["zero_output_for_mask"] = bool(config.get("return_sequences"))  # as Keras 3 and Keras 2 set it in both directions
    made = layer.inner({**entry, "config": config}, attribute, layer.input_shapes[:1])
    if not isinstance(made, Recurrent):
        raise ModelError(f"{title(layer)} runs a {entry.get('class_name')} in both directions; it must be an LSTM, GRU, SimpleRNN or RNN.")
    return made


class TimeDistributed(nn.Module):
    """A layer on each step of a sequence: all steps of all samples are one batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.masks = takes_masks(layer)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        named = {} if mask is None or not self.masks or mask.dim() < 3 else {"mask": mask.flatten(0, 1)}
        result = self.layer(x.flatten(0, 1), **named)
        if not isinstance(result, Tensor):
            raise ModelError("a layer on each step of a sequence must return one tensor.")
        return result.reshape(-1, x.shape[1], *result.shape[1:])

    def output_mask(self, x: Tensor, mask: Tensor | None = None) -> Tensor | None:
        return mask


def time_distributed(layer: Layer) -> nn.Module:
    """``TimeDistributed``."""
    shape = input_shape(layer)
    if len(shape) < 3:
        raise ModelError(f"{title(layer)} takes sequences, got the shape {shape}.")
    return TimeDistributed(layer.inner(layer.config.get("layer"), "layer", ((None, *shape[2:]),)))
