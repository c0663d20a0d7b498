"""tersenet: compress a trained network for a device and a budget, and prove the result by running that very file.

The face is the table below and nothing else. Names are resolved on first use, so that measuring a file needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tersenet.errors import WITHOUT_TORCH, MissingDependencyError

__version__ = "0.1.0"

# name -> module that has it
FACE = {
    "compress": "tersenet.journey",
    "fit": "tersenet.fitting",
    "distill": "tersenet.fitting",
    "evaluate": "tersenet.evaluation",
    "inspect_model": "tersenet.inspection",
    "Settings": "tersenet.journey",
    "ExportOptions": "tersenet.target",
    "load": "tersenet.frontends.table",
    "save": "tersenet.frontends.pt2_write",
    "load_keras": "tersenet.frontends.keras.read",
    "Model": "tersenet.model",
    "Data": "tersenet.data.parts",
    "Task": "tersenet.data.tasks",
    "Preparation": "tersenet.data.preparation",
    "Budget": "tersenet.budget",
    "Recipe": "tersenet.recipe",
    "Prune": "tersenet.steps.prune",
    "Sparsify": "tersenet.steps.sparsify",
    "Shorten": "tersenet.steps.shorten",
    "Rebuild": "tersenet.steps.rebuild",
    "Share": "tersenet.steps.share",
    "Quantize": "tersenet.steps.quantize",
    "Override": "tersenet.steps.quantize",
    "Train": "tersenet.steps.train",
    "Distill": "tersenet.steps.distill",
    "Training": "tersenet.training.options",
    "Report": "tersenet.record",
    "Artifact": "tersenet.target",
    "TersenetError": "tersenet.errors",
}


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module 'tersenet' has no attribute {name!r}")
    try:
        module = import_module(FACE[name])
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingDependencyError(WITHOUT_TORCH) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*FACE, "__version__"])
