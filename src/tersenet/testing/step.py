"""What every step must do. A stranger's step passes or fails by one line: ``check_step(MyStep(...))``."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from tersenet.capabilities import Capabilities, Kernel
from tersenet.data.parts import Data
from tersenet.errors import RecipeError
from tersenet.model import Model
from tersenet.step import Context, Step
from tersenet.testing.networks import samples, small_convolutional

# A runtime that exists nowhere: enough of a table for any step.
_WEIGHTED = Kernel(weights=("int8",), granularities=("per-channel", "per-tensor"), fuses=("relu", "relu6"))
FAKE_TABLE = Capabilities(
    "fake",
    {
        "conv2d": _WEIGHTED,
        "depthwise_conv2d": _WEIGHTED,
        "linear": _WEIGHTED,
        "add": Kernel(fuses=("relu",)),
        "max_pool2d": Kernel(shares="result"),
        "adaptive_avg_pool2d": Kernel(),
        "reshape": Kernel(shares="result"),
    },
)


class BrokenPromise(AssertionError):
    """A step or target does not do what its contract says."""


def check_step(step: Step, model: Model | None = None, context: Context | None = None) -> None:
    """Hold a step to its contract.

    Checks: it is a frozen value that round-trips through JSON; it leaves its input alone; the same call gives the same
    model; the result runs and returns what the input's shapes say; what it did or left is said; an unknown option is refused.

    Args:
        step: the step.
        model, context: to try it on; a small convolutional network and a runtime that exists nowhere unless given.

    Raises:
        BrokenPromise: which promise, and how it was broken.
    """
    model = model or small_convolutional()
    context = context or Context((FAKE_TABLE,), _data())
    _check_json(step)
    before, inputs = model.fingerprint, samples(4, seed=5)
    expected = _shapes(model(inputs))
    first, second = step.apply(model, context), step.apply(model, context)
    must(model.fingerprint == before, "the model that it was given is changed")
    must(first.model is not model, "it returned the model that it was given, not a new one")
    must(first.model.fingerprint == second.model.fingerprint, "the same call gave two different models")
    must(_shapes(first.model(inputs)) == expected, "the result's outputs have other shapes")
    must(bool(first.changed or first.skipped), "it says neither what it changed nor what it skipped")
    must(all(entry.what and entry.why for entry in (*first.changed, *first.skipped)), "a change without what or why")


def _check_json(step: Step) -> None:
    kind = type(step)
    must(bool(step.kind), "it has no kind")
    written = json.loads(json.dumps(step.to_json()))
    must(written.get("step") == step.kind, f"its JSON does not name it: {written}")
    must(kind.from_json(written) == step, f"it does not come back from its JSON: {written}")
    try:
        kind.from_json({"step": step.kind, "no_such_option": 1})
    except RecipeError:
        pass
    else:
        raise BrokenPromise(f"step {step.kind}: it takes an option that it does not have")
    try:
        setattr(step, "kind", "other")  # noqa: B010 - the attribute is what must not be settable
    except AttributeError:
        return
    raise BrokenPromise(f"step {step.kind}: it can be changed; a step must be frozen")


def must(holds: bool, otherwise: str) -> None:
    """Raise BrokenPromise, with `otherwise`, unless a promise holds."""
    if not holds:
        raise BrokenPromise(otherwise)


def _shapes(outputs: np.ndarray | Iterable[np.ndarray]) -> list[tuple[int, ...]]:
    return [outputs.shape] if isinstance(outputs, np.ndarray) else [array.shape for array in outputs]


def _data() -> Data:
    labels = np.arange(64) % 5
    return Data.from_arrays(
        train=(samples(64, 1), labels), calibration=samples(32, 2), selection=(samples(32, 3), labels[:32]), evaluation=(samples(8, 4), labels[:8])
    )
