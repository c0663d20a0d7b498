"""Charts as SVG, drawn from figures alone. Positions are shares of the width, so text keeps its size at every width of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from tersenet.report.wording import plain, signed

Ends = tuple[float, float]


def bar(value: float, largest: float, kind: str) -> Markup:
    """One horizontal bar.

    Args:
        value: its length, in the units of `largest`.
        largest: the value that fills the width.
        kind: its class: ``float``, ``shipped``, ``good``, ``weak``.
    """
    width = max(_place(value, 0.0, largest), 0.004)
    inner = _tag("rect", x="0", y="0", width=_percent(width), height="10", rx="2", class_=f"bar {kind}")
    return _svg(_tag("rect", x="0", y="0", width="100%", height="10", rx="2", class_="track") + inner, height=10)


def whisker(value: float, ends: Ends | None, limit: float, allowed: float | None, unit: str) -> Markup:
    """A drop with its interval, beside no drop at all and what is allowed. Worse is to the right.

    Args:
        value, ends: the drop and its 95 % interval.
        limit: the axis runs from -limit to limit.
        allowed: the budget, where there is one.
        unit: points or percent.
    """

    def at(number: float) -> str:
        return _percent(0.04 + 0.92 * _place(number, -limit, limit))

    parts = [_tag("line", x1="4%", x2="96%", y1="14", y2="14", class_="axis"), _tag("line", x1=at(0), x2=at(0), y1="4", y2="24", class_="zero")]
    parts.append(_text("float", at(0), 37, "middle" if allowed is None else "end", "tick"))
    worst = "bad" if allowed is not None and value > allowed else "good"
    if allowed is not None and allowed <= limit:
        parts.append(_tag("line", x1=at(allowed), x2=at(allowed), y1="4", y2="24", class_="allowed"))
        parts.append(_text(f"allowed {allowed:g}", at(allowed), 37, "start" if allowed < 0.4 * limit else "end", "tick"))
    if ends is not None:
        parts.append(_tag("line", x1=at(ends[0]), x2=at(ends[1]), y1="14", y2="14", class_=f"interval {worst}"))
    parts.append(_tag("circle", cx=at(value), cy="14", r="4.5", class_=f"dot {worst}"))
    said = f"drop {signed(value)} {unit}" + (f", 95 % interval {signed(ends[0])} to {signed(ends[1])}" if ends else "")
    return _svg(Markup("").join(parts), height=42, label=said)


def sparkline(counts: Sequence[int], limits: Ends, chosen: Ends, height: int = 26) -> Markup:
    """A small histogram with the chosen range shaded."""
    return _svg(_histogram(counts, limits, chosen, height), height=height)


def histogram(counts: Sequence[int], limits: Ends, chosen: Ends, what: str) -> Markup:
    """A histogram with its axis and the chosen range marked.

    Args:
        counts: in equal bins over `limits`.
        limits: of the axis.
        chosen: the range of the grid.
        what: for those who cannot see it.
    """
    height, low, high = 96, *_frame(limits, chosen)
    marks = []
    for edge, end in zip(chosen, ("start", "end"), strict=True):
        place = _percent(_place(edge, low, high))
        marks.append(_tag("line", x1=place, x2=place, y1="0", y2=str(height), class_="edge"))
        marks.append(_text(plain(edge), place, height + 15, end, "tick chosen"))
    inner = _histogram(counts, limits, chosen, height) + Markup("").join(marks)
    said = f"{what}: histogram from {plain(limits[0])} to {plain(limits[1])}; the chosen range is {plain(chosen[0])} to {plain(chosen[1])}"
    return _svg(inner, height=height + 20, label=said)


def _histogram(counts: Sequence[int], limits: Ends, chosen: Ends, height: int) -> Markup:
    """The shape alone, counts on a logarithmic scale: tails are what a range cuts off."""
    low, high = _frame(limits, chosen)
    counts = [max(count, 0) for count in counts]
    start, stop = (_place(edge, low, high) for edge in chosen)
    shade = _tag("rect", x=_percent(start), width=_percent(max(stop - start, 0.002)), y="0", height=str(height), class_="range")
    tallest = math.log1p(max(counts, default=0)) or 1.0
    left, right = (1000 * _place(edge, low, high) for edge in limits)
    step = (right - left) / max(len(counts), 1)
    path = [f"M{left:.1f} 100"]
    for index, count in enumerate(counts):
        path.append(f"V{100 - 96 * math.log1p(count) / tallest:.1f}H{left + (index + 1) * step:.1f}")
    shape = _tag("path", d="".join(path) + "V100Z", class_="shape")
    nested = _tag("svg", inner=shape, viewBox="0 0 1000 100", preserveAspectRatio="none", width="100%", height=str(height), x="0", y="0")
    return shade + nested


def _frame(limits: Ends, chosen: Ends) -> Ends:
    """What the axis spans: the values and the range that was chosen for them."""
    return min(*limits, *chosen), max(*limits, *chosen)


def _place(value: float, low: float, high: float) -> float:
    """Where a value lies between two ends, from 0 to 1; in the middle where the ends are one, or too far apart to tell."""
    width = high - low
    return min(max((value - low) / width, 0.0), 1.0) if 0 < width < math.inf and math.isfinite(value - low) else 0.5


def _text(words: str, x: str, y: int, anchor: str, kind: str) -> Markup:
    return _tag("text", inner=escape(words), x=x, y=str(y), text_anchor=anchor, class_=kind)


def _svg(inner: Markup, height: int, label: str = "") -> Markup:
    if label:
        return _tag("svg", inner=_tag("title", inner=escape(label)) + inner, width="100%", height=str(height), role="img")
    return _tag("svg", inner=inner, width="100%", height=str(height), aria_hidden="true")


def _tag(name: str, inner: Markup | None = None, **attributes: str) -> Markup:
    """An element; ``class_`` and ``text_anchor`` become ``class`` and ``text-anchor``, every value escaped."""
    written = Markup("").join(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Markup("<{0}{1}/>").format(name, written) if inner is None else Markup("<{0}{1}>{2}</{0}>").format(name, written, inner)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
