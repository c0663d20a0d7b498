"""The contract of a frontend: what one framework's networks are read with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tersenet.model import Model


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Args:
        example_inputs: for a module: a tuple of what it takes, or a dict by name; None where it brings its own.
        weights: a file of weights to load into the network first; "" for none.
        trust: code that comes with the file may run.
        name: what reports call the network; "" for a name made from the source.
        dynamic: input name -> axis -> what it counts, for axes beside the batch that take any size.
        length: of sequences that the source leaves open: tokens of a text, samples of a sound; 0 for the usual.
    """

    example_inputs: Any = None
    weights: str = ""
    trust: bool = False
    name: str = ""
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    length: int = 0


class Frontend(Protocol):
    """Reads one kind of source. Imports its framework on first use. At most these two methods."""

    def accepts(self, source: Any) -> bool:
        """Whether this source is of its kind: told by its type, or by the ending of its name, without opening it."""

    def read(self, source: Any, reading: Reading) -> Model:
        """The network.

        Raises:
            ModelError: it cannot be read; the message names the source.
            UntrustedError: reading it would run code that came with it, and `reading.trust` is not set.
        """
