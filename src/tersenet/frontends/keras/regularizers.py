"""Serialized regularizers and constraints of Keras 2 and 3, as what training here adds and holds to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tersenet.annotations import Constraint, Penalty


class Unknown(Exception):
    """The reason why a regularizer or a constraint is not kept."""


def regularizer(held: Any) -> Penalty:
    """What a regularizer adds to the loss; of the orthogonal one the axes are those of the variable of Keras.

    Raises:
        Unknown: it is none of Keras's own, or has no settings that are.

    >>> regularizer({"class_name": "L1L2", "config": {"l1": 0.0, "l2": 0.5}})
    Penalty(l1=0.0, l2=0.5, orthogonal=0.0, axes=())
    """
    kind, config = _parts(held)
    usual = 0.01 if not isinstance(held, Mapping) or kind in ("l1", "l2") else 0.0
    if kind in ("l1", "l2", "l1l2"):
        l1, l2 = (_number(config, name, usual) if name in kind else 0.0 for name in ("l1", "l2"))
        return Penalty(l1, l2)
    if kind in ("orthogonalregularizer", "orthogonal"):
        mode = config.get("mode", "rows")
        if mode not in ("rows", "columns"):
            raise Unknown(f"its mode must be rows or columns, got {str(mode)[:40]!r}")
        return Penalty(orthogonal=_number(config, "factor", 0.01), axes=(1,) if mode == "rows" else (0,))
    raise Unknown("it is none of Keras's own")


def constraint(held: Any) -> Constraint:
    """What a constraint holds to; its axes are those of the variable of Keras.

    Raises:
        Unknown: it is none of Keras's own, or has no settings that are.

    >>> constraint({"class_name": "MaxNorm", "config": {"max_value": 3, "axis": [0, 1]}})
    Constraint(kind='norm', lowest=0.0, highest=3.0, rate=1.0, axes=(0, 1))
    """
    kind, config = _parts(held)
    if kind in ("nonneg", "nonnegative"):
        return Constraint("non-negative")
    axis = config.get("axis", 0)
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in axes):
        raise Unknown(f"its axis must be whole numbers, got {str(axis)[:40]}")
    if kind == "maxnorm":
        return Constraint("norm", 0.0, _number(config, "max_value", 2.0), 1.0, axes)
    if kind == "unitnorm":
        return Constraint("norm", 1.0, 1.0, 1.0, axes)
    if kind == "minmaxnorm":
        lowest, highest, rate = (_number(config, name, usual) for name, usual in (("min_value", 0.0), ("max_value", 1.0), ("rate", 1.0)))
        return Constraint("norm", lowest, highest, rate, axes)
    raise Unknown("it is none of Keras's own that are kept")


def text(held: Any) -> str:
    """The name of a serialized object, with its numbers.

    >>> text({"class_name": "L2", "config": {"l2": 0.1}})
    'L2 l2=0.1'
    """
    if not isinstance(held, Mapping):
        return str(held)[:60]
    config = held.get("config")
    numbers = {key: found for key, found in config.items() if _is_number(found) and found} if isinstance(config, Mapping) else {}
    return f"{str(held.get('class_name'))[:60]}{''.join(f' {key}={found:g}' for key, found in numbers.items())}"


def _parts(held: Any) -> tuple[str, Mapping[str, Any]]:
    """The name of a serialized object without capitals and underscores, and its configuration; "" for a class of its author's own."""
    if not isinstance(held, Mapping):
        return str(held).replace("_", "").lower(), {}
    config = held.get("config")
    own = not str(held.get("module") or "keras").startswith(("keras", "tf_keras", "builtins")) or ">" in str(held.get("registered_name") or "")
    name = "" if own or ">" in str(held.get("class_name")) else str(held.get("class_name"))
    return name.replace("_", "").lower(), config if isinstance(config, Mapping) else {}


def _number(config: Mapping[str, Any], name: str, usual: float) -> float:
    found = config.get(name)
    found = usual if found is None else found
    if not _is_number(found) or not math.isfinite(found) or found < 0:
        raise Unknown(f"its {name} must be a number of 0 or more, got {str(found)[:40]}")
    return float(found)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)
