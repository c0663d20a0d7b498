"""One layer of a Keras network as a converter sees it: its class, its configuration, its variables, what comes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.keras.config import described


@dataclass(frozen=True)
class Weights:
    """A layer's variables as a tree.

    Args:
        own: in the order in which the layer made them (kernel, bias, ...); float16 and bfloat16 are float32 already.
        children: of the layers inside it, by the attribute name that Keras 3 has for each (``forward_layer``, ``cell``, ``query_dense``).
    """

    own: tuple[np.ndarray, ...] = ()
    children: Mapping[str, Weights] = field(default_factory=dict)


Shapes = tuple[tuple[int | None, ...], ...]


@dataclass(frozen=True)
class Layer:
    """What a converter is given.

    Args:
        kind: the name of its class, ``Conv2D``.
        name: its own name in the network.
        config: its configuration, as the file has it.
        weights: its variables.
        input_shapes: of each tensor that it takes, batch first; None for any size.
        convert: converts a layer that is inside this one; see `inner`.
        registered: the name that its author registered the class under, "" for a class of Keras.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    weights: Weights = Weights()
    input_shapes: Shapes = ()
    convert: Convert | None = field(default=None, compare=False, repr=False)
    registered: str = ""

    def inner(self, entry: Any, attribute: str, input_shapes: Shapes) -> torch.nn.Module:
        """The module of a layer inside this one.

        Args:
            entry: its serialized form, as it stands in this layer's configuration.
            attribute: what Keras calls it in this layer; its weights are ``weights.children[attribute]``.
            input_shapes: what it is called with.

        Raises:
            ModelError: it cannot be converted.
        """
        if self.convert is None:
            raise ModelError(f"{self.kind} {self.name!r} holds another layer, and nothing is given that converts it.")
        inside = described(entry)
        weights = self.weights.children.get(attribute, Weights())
        return self.convert(Layer(inside.kind, inside.name, inside.config, weights, input_shapes, self.convert, inside.registered))


# The module's forward takes the tensors that the Keras layer takes, one argument each (lists of tensors opened), other arguments of the
# Keras call by their names, and `mask` by name where the layer uses masks: one mask or None, or for several tensors a list of these.
# Where the mask of its output is not simply that of its input, the module has `output_mask(*inputs, mask)`, which returns it, or None.
# What cannot be kept but does not change the result (recurrent dropout) is said in an attribute `notes`, a tuple of sentences.
Convert = Callable[[Layer], torch.nn.Module]
