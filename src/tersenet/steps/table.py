"""Every step, by the name that recipes call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tersenet.errors import RecipeError, shortened, unknown
from tersenet.step import Step
from tersenet.steps.distill import Distill
from tersenet.steps.prune import Prune
from tersenet.steps.quantize import Quantize
from tersenet.steps.rebuild import Rebuild
from tersenet.steps.share import Share
from tersenet.steps.shorten import Shorten
from tersenet.steps.sparsify import Sparsify
from tersenet.steps.train import Train

STEPS: Mapping[str, type[Step]] = {step.kind: step for step in (Distill, Prune, Quantize, Rebuild, Share, Shorten, Sparsify, Train)}


def step_from_json(record: Any) -> Step:
    """The step that a mapping such as ``{"step": "quantize", "weights": "int8"}`` describes.

    Raises:
        RecipeError: it is no mapping, names no step or an unknown one, or has an unknown option.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("step"), str):
        raise RecipeError(f"a step of a recipe must be a mapping with the key 'step', got {shortened(record)}.")
    if record["step"] not in STEPS:
        raise RecipeError(unknown("step", record["step"], STEPS))
    return STEPS[record["step"]].from_json(record)
