"""Rules of normalizations: their weights go with the channels."""

from __future__ import annotations

from tersenet.graph.dimensions.site import Axes, Site, Value


def batch_norm(site: Site) -> Axes:
    """Statistics, scale and shift of each channel."""
    axes = list(site.axes("input"))
    for name in ("weight", "bias", "running_mean", "running_var"):
        if site.arguments.get(name) is not None:
            axes[1] = site.tie(axes[1], *site.axes(name))
    return tuple(axes)


def layer_norm(site: Site) -> Value:
    """Over the last axes; channels that leave are not counted any more."""
    axes = list(site.axes("input"))
    for name in ("weight", "bias"):
        held = site.arguments.get(name)
        if held is not None:
            parts = site.axes(held)
            axes[-len(parts) :] = list(site.broadcast(tuple(axes[-len(parts) :]), parts))
    return tuple(axes)


def group_norm(site: Site) -> Value:
    """As many channels leave each group, or whole groups do."""
    axes = list(batch_norm(site))
    groups = site.arguments["num_groups"]
    if groups > 1:
        site.product(axes[1], (site.fresh(groups), site.fresh(len(axes[1]) // groups)))
    return tuple(axes)


def weight_norm(site: Site) -> Value:
    """A direction times a length for each index of one axis."""
    return site.broadcast(site.axes("v"), site.axes("g"))
