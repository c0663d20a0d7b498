"""Units as the 8-bit kernels of one library compute them: `tersenet.numerics.kernels` at the place of torch's operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tersenet.graph.site import POOLED_AXES, Site
from tersenet.graph.walk import bind, tensor_inputs
from tersenet.numerics import kernels


def write(arithmetic: str, site: Site) -> bool:
    """Rewrite an anchor, in place, as the kernels of a library compute it; False where one rounding of real numbers is what they do.

    Args:
        arithmetic: the library, as `tersenet.capabilities.Kernel` names it.
        site: the unit's place.
    """
    found = WRITTEN.get((arithmetic, site.unit.kind))
    if found is None or site.bits > 8 or not site.scales:
        return False
    found(site)
    return True


def _sum(site: Site) -> None:
    site.become(kernels.sum_in_fixed_point, *site.node.args[:2], site.both, site.unit.kind == "sub")


def _fused_sum(site: Site) -> None:
    first, second = site.encodings[0], site.encodings[-2]
    zero_points = tuple(encoding.zero_point[0] for encoding in (first, second, site.result))
    site.become(kernels.sum_of_fused_products, *site.node.args[:2], site.both, zero_points)


def _clamp(site: Site) -> None:
    site.convert_input(kernels.converted, site.scales)


def _leaky_relu(site: Site) -> None:
    held = bind(site.node)
    site.become(kernels.leaky_relu, held["self"], float(held["negative_slope"]), site.scales)


def _of_one(function: Callable[..., object]) -> Callable[[Site], None]:
    return lambda site: site.become(function, site.node.args[0], site.scales)


def _resize(site: Site) -> None:
    sizes = [int(size) for size in site.node.meta["val"].shape[2:]]
    site.become(kernels.resize_bilinear, tensor_inputs(site.node)[0], bool(bind(site.node)["align_corners"]), sizes, site.result.scale[0])


def _pool(site: Site) -> None:
    node, grid = site.node, site.result
    if not node.kwargs:
        site.become(kernels.mean_of_stored, node.target, node.args[0], node.args[1:], grid.scale[0], grid.zero_point[0])


def _mean(site: Site, zero_point: int = 0) -> None:
    sizes = site.node.meta["val"].shape[2:] if site.unit.kind in POOLED_AXES else ()
    if all(size == 1 for size in sizes):  # pooling to other sizes is pooling over windows
        site.become(kernels.mean_of_sums, *site.averaged, site.scales, zero_point)


def _mean_of_stored(site: Site) -> None:
    _mean(site, site.result.zero_point[0])


# (library, kind) -> what writes it.
WRITTEN: Mapping[tuple[str, str], Callable[[Site], None]] = {
    ("xnnpack", "add"): _sum,
    ("xnnpack", "sub"): _sum,
    ("xnnpack", "clamp"): _clamp,
    ("xnnpack", "leaky_relu"): _leaky_relu,
    ("xnnpack", "silu"): _of_one(kernels.silu),
    ("xnnpack", "hardswish"): _of_one(kernels.hardswish),
    ("xnnpack", "hardsigmoid"): _of_one(kernels.hardsigmoid),
    ("xnnpack", "resize_bilinear"): _resize,
    ("mlas", "add"): _fused_sum,
    ("mlas", "avg_pool1d"): _pool,
    ("mlas", "avg_pool2d"): _pool,
    ("mlas", "adaptive_avg_pool2d"): _mean,
    **{("xnnpack", kind): _mean_of_stored for kind in ("mean", "adaptive_avg_pool1d", "adaptive_avg_pool2d")},
}
