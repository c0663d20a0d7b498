"""Which weights of at most 4 bits a file holds two a byte: what was asked, and what a kernel's table says (`Kernel.four_bits`)."""

from __future__ import annotations

from tersenet.errors import RecipeError, unknown
from tersenet.plan import QuantizationPlan
from tersenet.target import ExportOptions

OPTION = "four_bit_weights"
# Where kernels give the same results in no more time (unless asked otherwise), wherever they take such weights, nowhere.
CHOICES = ("fast", "always", "never")


def asked(options: ExportOptions) -> str:
    """What the user wants of weights of 4 bits.

    Raises:
        RecipeError: it is none of `CHOICES`.
    """
    choice = options.format.get(OPTION, CHOICES[0])
    if choice not in CHOICES:
        raise RecipeError(unknown(f"value of {OPTION}", str(choice), CHOICES))
    return str(choice)


def holds_any(plan: QuantizationPlan | None) -> bool:
    """Whether a plan has weights of at most 4 bits."""
    return plan is not None and any(encoding.scheme.bits <= 4 for unit in plan.units.values() for encoding in unit.weights.values())


def taken(where: str, choice: str, *, rows: int = 1, scales: int = 1) -> bool:
    """Whether a weight lies two a byte.

    Args:
        where: as the kernel's table has it.
        choice: one of `CHOICES`.
        rows: that the kernel multiplies with the weight.
        scales: that the weight has.
    """
    if choice == "never" or not where or (where == "one scale" and scales > 1):
        return False
    return choice == "always" or where in ("always", "one scale") or (where == "one row" and rows == 1)


def said(before: int, count: int, left: int) -> tuple[str, ...]:
    """Sentences for the report.

    Args:
        before: bytes of the weights that lie two a byte now.
        count: how many weights those are.
        left: how many others would fit into 4 bits.
    """
    stored = f"{count} weights of at most 4 bits are stored two a byte, in {-(-before // 2):,} bytes for {before:,}"
    kept = f"{left} weights of at most 4 bits are stored in a byte each: their kernels would not take them, or not as fast"
    return (*((stored,) if count else ()), *((kept,) if left else ()))
