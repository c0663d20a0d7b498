"""How figures are written, the same in the terminal and on the page."""

from __future__ import annotations

import math

from tersenet.record import Latency, Quality

MISSING = "–"
UNCHANGED = "unchanged"


def size(count: float | None) -> str:
    """Bytes as people read them.

    >>> size(492_585), size(812), size(3_749_688), size(None)
    ('493 kB', '812 B', '3.75 MB', '–')
    """
    return MISSING if count is None else _scaled(count, ("B", "kB", "MB", "GB"))


def counted(count: float | None) -> str:
    """A large number of things.

    >>> counted(464_154), counted(69_124_096), counted(9)
    ('464 k', '69.1 M', '9')
    """
    return MISSING if count is None else _scaled(count, ("", "k", "M", "G")).strip()


def _scaled(count: float, units: tuple[str, ...]) -> str:
    power = 0
    while abs(count) >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{_three(count) if power else format(count, '.0f')} {units[power]}"


def _three(value: float) -> str:
    """Three significant digits, never in powers of ten for what is shown here."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    decimals = max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9))
    return f"{value:,.{min(decimals, 6)}f}"


def milliseconds(value: float | None) -> str:
    """A time, in the unit that leaves one to three digits before the point.

    >>> milliseconds(0.57), milliseconds(0.0123), milliseconds(1830.0)
    ('0.57 ms', '12.3 µs', '1.83 s')
    """
    if value is None:
        return MISSING
    if value < 0.1:
        return f"{_three(value * 1000)} µs"
    return f"{value / 1000:.2f} s" if value >= 1000 else f"{value:.2f} ms" if value < 10 else f"{_three(value)} ms"


def times(ratio: float | None) -> str:
    """A ratio: ``4.03×``."""
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    return f"{ratio:.2f}×" if ratio < 10 else f"{_three(ratio)}×"


def compared(ratio: float | None, better: str, worse: str) -> str:
    """A gain or a loss in words.

    >>> compared(4.0, "smaller", "larger"), compared(0.5, "faster", "slower")
    ('4.00× smaller', '2.00× slower')
    """
    if ratio is None or not 0 < ratio < math.inf:
        return MISSING
    return f"{times(ratio)} {better}" if ratio >= 1 else f"{times(1 / ratio)} {worse}"


def signed(value: float | None, digits: int = 2) -> str:
    """With its sign, a real minus, and no negative zero.

    >>> signed(0.2), signed(-0.15), signed(-0.001)
    ('+0.20', '−0.15', '0.00')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def hundredths(value: float) -> str:
    """Points or percent, without a sign: ``0.90``."""
    return f"{value:.2f}"


def between(ends: tuple[float, float] | None, digits: int = 2) -> str:
    """An interval of signed numbers: ``−0.10 … +0.50``."""
    return MISSING if ends is None else f"{signed(ends[0], digits)} … {signed(ends[1], digits)}"


def plain(value: float | None) -> str:
    """Any real number, three significant digits.

    >>> plain(-0.98765), plain(0.0), plain(12345.6), plain(1e-9)
    ('−0.988', '0', '12,346', '1.00e-09')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    small = value != 0 and abs(value) < 1e-4
    return (f"{value:.2e}" if small or abs(value) >= 1e9 else _three(value)).replace("-", "−", 1 if value < 0 else 0)


def share(value: float | None, digits: int = 1) -> str:
    """A share of one, in percent; never rounded up to 100 or down to 0.

    >>> share(0.99996), share(1.0), share(0.0001)
    ('99.9 %', '100 %', '0.1 %')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value in (0.0, 1.0):
        return f"{100 * value:.0f} %"
    least = 10.0**-digits
    return f"{min(max(100 * value, least), 100 - least):.{digits}f} %" if 0 < value < 1 else f"{100 * value:.{digits}f} %"


def metric(quality: Quality | None, value: float | None) -> str:
    """A value of a task's metric: percent where it is bounded."""
    if quality is None or value is None:
        return MISSING
    return f"{100 * value:.2f} %" if quality.unit == "points" else f"{value:.4g}"


def change(quality: Quality | None) -> str:
    """How much worse the metric became, in words."""
    if quality is None or quality.drop_points is None:
        return MISSING
    amount = f"{abs(quality.drop_points):.2f} {quality.unit}"
    if float(f"{quality.drop_points:.2f}") == 0:
        return UNCHANGED
    return f"{amount} worse" if quality.drop_points > 0 else f"{amount} better"


def spread(latency: Latency | None) -> str:
    """The middle eight tenths of the runs: ``0.56 … 0.60 ms``."""
    return MISSING if latency is None else f"{milliseconds(latency.p10)} … {milliseconds(latency.p90)}"
