"""A tree of torch modules that holds parameters under readable names, and layers under theirs."""

from __future__ import annotations

import torch

# What a module has already: a parameter called so would hide it.
_TAKEN = frozenset(dir(torch.nn.Module()))


class Part(torch.nn.Module):
    """A place in the tree."""

    def place(self, path: str) -> tuple[Part, list[str]]:
        """The part at a path, made where there is none, and the names that lead to it: a name that is taken gets a number."""
        part, names = self, []
        for wanted in path.split(".") if path else ():
            name = wanted
            while not isinstance(getattr(part, name, None), Part):
                if part.is_free(name):
                    part.add_module(name, Part())
                    break
                name = f"{name}_"
            part = getattr(part, name)
            names.append(name)
        return part, names

    def is_free(self, name: str) -> bool:
        return name not in _TAKEN and not hasattr(self, name)

    def hold(self, path: str, value: torch.Tensor, trainable: bool) -> str:
        """Register a tensor; returns the path that it has."""
        parents, _, wanted = path.rpartition(".")
        part, names = self.place(parents)
        last, number = wanted, 1
        while not part.is_free(last):
            number += 1
            last = f"{wanted}_{number}"
        if trainable:
            part.register_parameter(last, torch.nn.Parameter(value))
        else:
            part.register_buffer(last, value)
        return ".".join([*names, last])
