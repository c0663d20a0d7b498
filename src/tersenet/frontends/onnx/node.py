"""What an operator's converter is given, and how the table names one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One operator of a file, without its inputs.

    Args:
        kind: the operator's name (``Conv``).
        domain: "" for ONNX's own operators, ``com.microsoft`` for onnxruntime's.
        opset: the version of the domain that the file was written for.
        name: the node's own name, or one made from its first output.
        attributes: numbers, strings, lists of these, numpy arrays for tensors.
        outputs: how many outputs are used, counted to the last used one.
        training: dropout drops, and batch normalization takes its batch's statistics.
    """

    kind: str
    domain: str = ""
    opset: int = 0
    name: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    training: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what the standard says where it is left out."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class Operator:
    """A row of the table: the function that computes an operator, and how it wants its inputs.

    The function is called as ``function(node, *inputs)``: a tensor for each input, None for one that is left out (trailing ones are not
    given at all), and returns a tensor, or a tuple of them.

    Args:
        module: the file in ``operators/`` that has the function.
        function: its name.
        sizes: positions of inputs that must be known before the network runs (shapes, axes, pads): they come as a tuple of
            ``int | torch.SymInt``, from a scalar a tuple of one. A file that computes them from its data is refused.
        numbers: positions of inputs that come as Python numbers where they are constants (a float, an int or a bool for a scalar or a tensor of
            one element; a flat list of them otherwise), else as tensors.
        scalars: positions of inputs that come as a Python number where they are a constant without axes, else as tensors.
        statistics: positions of constants that training does not change: the means and variances of batch normalization.
    """

    module: str
    function: str
    sizes: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()
    statistics: tuple[int, ...] = ()
