"""Numbers of things in sentences."""

from __future__ import annotations


def several(count: int, what: str) -> str:
    """So many of something.

    >>> several(1, "operator"), several(2, "operator"), several(1200, "sample")
    ('1 operator', '2 operators', '1,200 samples')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"
