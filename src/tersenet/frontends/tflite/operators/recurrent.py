"""Recurrent operators: one call of torch's for each, whatever the length of the sequence."""

from __future__ import annotations

import torch
from torch import nn

from tersenet.frontends.tflite.site import Part, Site

TANH = 4
# Converters write a clip of 10 for Keras's layers, which have none: tanh(10) is 1 in float32, and a cell beyond it has forgotten nothing yet.
HARMLESS_CLIP = 10.0
PEEPHOLES, NORMS = (9, 10, 11), (20, 21, 22, 23)
PROJECTION = 16


def _gates(site: Site, first: int) -> list[torch.Tensor]:
    """Tensors of the gates input, forget, cell and output: torch's order too."""
    if not site.has(first):
        raise site.refuse("its input and forget gates are coupled")
    return [site.weight(first + gate) for gate in range(4)]


def _direction(site: Site, layer: nn.LSTM, suffix: str, places: tuple[int, int, int]) -> None:
    source, recurrent, biases = places
    gates = [torch.cat(_gates(site, place)) for place in (source, recurrent)]
    bias = torch.cat([site.weight(biases + gate) for gate in range(4)])
    for name, value in (("weight_ih", gates[0]), ("weight_hh", gates[1]), ("bias_ih", bias), ("bias_hh", torch.zeros_like(bias))):
        setattr(layer, f"{name}_l0{suffix}", nn.Parameter(value))


class Sequence(nn.Module):
    """An LSTM over a sequence, starting from zeros."""

    def __init__(self, layer: nn.LSTM, *, time_major: bool) -> None:
        super().__init__()
        self.layer, self.time_major = layer, time_major

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:
        turned = sequence.transpose(0, 1) if self.time_major else sequence
        result = self.layer(turned)[0]
        return result.transpose(0, 1) if self.time_major else result


def _check(site: Site, places: tuple[int, ...], what: str) -> None:
    if any(site.has(place) for place in places):
        raise site.refuse(f"{what} are not read")


def _check_options(site: Site) -> None:
    if site.options["fusedActivationFunction"] != TANH:
        raise site.refuse("its activation must be tanh")
    if 0 < site.options.get("cellClip", 0.0) < HARMLESS_CLIP or site.options.get("projClip"):
        raise site.refuse("clipped cells are not read")


def lstm(site: Site) -> Part:
    """UNIDIRECTIONAL_SEQUENCE_LSTM (Hochreiter and Schmidhuber 1997), without peepholes, coupled gates or normalized layers."""
    _check_options(site)
    _check(site, PEEPHOLES, "peepholes")
    _check(site, NORMS, "normalized layers")
    units, features = site.shape(5)[0], site.shape(1)[1] if site.has(1) else 0
    projected = site.shape(PROJECTION)[0] if site.has(PROJECTION) else 0
    if site.has(PROJECTION + 1):
        raise site.refuse("a bias of the projection is not read")
    with torch.device("meta"):
        layer = nn.LSTM(features, units, batch_first=True, proj_size=projected if projected < units else 0)
    _direction(site, layer, "", (1, 5, 12))
    if projected:
        if projected >= units:
            raise site.refuse("its projection must be smaller than its state")
        layer.weight_hr_l0 = nn.Parameter(site.weight(PROJECTION))
    return Sequence(layer, time_major=bool(site.options["timeMajor"])), (0,)


def bidirectional_lstm(site: Site) -> Part:
    """BIDIRECTIONAL_SEQUENCE_LSTM, results of both directions side by side or apart."""
    _check_options(site)
    _check(site, (9, 10, 11, 26, 27, 28), "peepholes")
    _check(site, (16, 17, 33, 34), "projections")
    _check(site, (39, 40, 41, 42, 43, 44, 45, 46, 47), "auxiliary inputs")
    units, features = site.shape(5)[0], site.shape(2)[1]
    with torch.device("meta"):
        layer = nn.LSTM(features, units, batch_first=True, bidirectional=True)
    _direction(site, layer, "", (1, 5, 12))
    _direction(site, layer, "_reverse", (18, 22, 29))
    both = Sequence(layer, time_major=bool(site.options["timeMajor"]))
    if site.options["mergeOutputs"]:
        return both, (0,)

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = both

        def forward(self, sequence: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.both(sequence).split(units, -1))

    return Apart(), (0,)
