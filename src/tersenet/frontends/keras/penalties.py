"""Regularizers and constraints of layers: they are no part of what a network computes, and training here has its own, so each is only named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_MOST = 6  # that a note names
_LEFT = {
    "_regularizer": "regularizers are not kept: training adds what its options l1 and l2 say",
    "_constraint": "constraints are not kept: training does not hold weights to them",
}


def penalties(kind: str, name: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each regularizer and constraint that a layer has: which of the two it is, and its name with its settings.

    >>> penalties("Dense", "out", {"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.1}}, "bias_constraint": None})
    [('_regularizer', 'out (kernel: L2 l2=0.1)')]
    """
    found = []
    for key, held in config.items():
        ending = next((ending for ending in _LEFT if key.endswith(ending)), "")
        if ending and held is not None:
            found.append((ending, f"{name} ({key.removesuffix(ending)}: {_text(held)})"))
    strengths = {key: config.get(key) for key in ("l1", "l2") if config.get(key)}
    if kind == "ActivityRegularization" and strengths:
        found.append(("_regularizer", f"{name} (activity:{_settings(strengths)})"))
    return found


def notes(found: Collection[tuple[str, str]]) -> list[str]:
    """What a network's notes say of them: one sentence for each of the two."""
    said = []
    for ending, sentence in _LEFT.items():
        layers = [text for sort, text in found if sort == ending]
        if layers:
            more = f" and {len(layers) - _MOST} more" if len(layers) > _MOST else ""
            said.append(f"{sentence}; there are {', '.join(layers[:_MOST])}{more}")
    return said


def _text(held: Any) -> str:
    if not isinstance(held, Mapping):
        return str(held)[:60]
    config = held.get("config")
    return f"{str(held.get('class_name'))[:60]}{_settings(config) if isinstance(config, Mapping) else ''}"


def _settings(config: Mapping[str, Any]) -> str:
    """The numbers of a configuration."""
    numbers = {key: found for key, found in config.items() if isinstance(found, int | float) and not isinstance(found, bool) and found}
    return "".join(f" {key}={found:g}" for key, found in numbers.items())
