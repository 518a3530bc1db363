"""Numbers and intervals as people read them, in a terminal, on paper and on the pages."""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "DASH",
    "NARROW_SPACE",
    "brief",
    "count",
    "decimal",
    "interval",
    "p_value",
    "percent",
    "probability",
    "setting",
    "signed",
    "spaced_interval",
    "spread",
]

DASH: Final = "\N{EN DASH}"
NARROW_SPACE: Final = "\N{NARROW NO-BREAK SPACE}"
_MOST_DIGITS: Final = 6


def decimal(value: float | None, missing: str = DASH) -> str:
    """Write a figure with three decimals."""
    return missing if value is None else f"{value:.3f}"


def spread(low: float, high: float, between: str = DASH, digits: int = 3) -> str:
    """Write the bounds of an interval."""
    return f"{low:.{digits}f}{between}{high:.{digits}f}"


def interval(value: float, low: float, high: float, between: str = "-", digits: int = 3) -> str:
    """Write a figure with its interval.

    Examples
    --------
    >>> interval(0.8126, 0.75, 0.87), interval(0.8126, 0.75, 0.87, " to ", 2)
    ('0.813 (0.750-0.870)', '0.81 (0.75 to 0.87)')
    """
    return f"{value:.{digits}f} ({spread(low, high, between, digits)})"


def spaced_interval(
    value: float, low: float | None, high: float | None, *, share: bool = False
) -> str:
    """Write a figure with its interval for a page; a bound may be unknown, a share is in percent.

    Examples
    --------
    >>> spaced_interval(0.81, 0.76, None).replace(DASH, "-")
    '0.810 (0.760-?)'
    >>> spaced_interval(0.952, 0.9, 0.97, share=True).replace(NARROW_SPACE, " ").replace(DASH, "-")
    '95 % (90-97)'
    """
    unit = f"{NARROW_SPACE}%" if share else ""
    first, *bounds = (
        "?" if each is None else f"{each * 100:.0f}" if share else decimal(each)
        for each in (value, low, high)
    )
    return f"{first}{unit} ({DASH.join(bounds)})"


def signed(value: float) -> str:
    """Write a difference: ``+0.012``."""
    return f"{value:+.3f}"


def p_value(value: float, *, named: bool = False) -> str:
    """Write a p value.

    Examples
    --------
    >>> p_value(0.0002), p_value(0.0412), p_value(0.0002, named=True), p_value(0.0412, named=True)
    ('< 0.001', '0.041', 'p < 0.001', 'p = 0.041')
    """
    if value < 0.001:
        return "p < 0.001" if named else "< 0.001"
    return f"p = {value:.3f}" if named else f"{value:.3f}"


def percent(share: float, digits: int = 1, space: str = " ") -> str:
    """Write a share in percent.

    Examples
    --------
    >>> percent(0.1234), percent(0.1234, 0)
    ('12.3 %', '12 %')
    """
    return f"{100 * share:.{digits}f}{space}%"


def probability(value: float, other: float | None = None) -> str:
    """Write a probability so that it is neither rounded to certainty nor to another one.

    Parameters
    ----------
    value : float
    other : float, optional
        Digits are added until the two look different, if they are.

    Examples
    --------
    >>> probability(0.1234).replace(NARROW_SPACE, " ")
    '12.3 %'
    >>> probability(0.99999).replace(NARROW_SPACE, " ")
    '> 99.9 %'
    >>> probability(0.12345, 0.12349).replace(NARROW_SPACE, " ")
    '12.345 %'
    """
    if 0 < value < 0.001:
        return f"<{NARROW_SPACE}0.1{NARROW_SPACE}%"
    if 0.999 < value < 1:
        return f">{NARROW_SPACE}99.9{NARROW_SPACE}%"
    digits = 1
    while (
        other is not None
        and other != value
        and digits < _MOST_DIGITS
        and percent(value, digits) == percent(other, digits)
    ):
        digits += 1
    return percent(value, digits, NARROW_SPACE)


def brief(value: float) -> str:
    """Write a measured value in three digits: ``0.0123``, ``1,235``."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def setting(value: Any) -> str:
    """Write a setting; numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def count(n: int, what: str, one: str = "", many: str = "") -> str:
    """Name a number of things, and what one or several do.

    Examples
    --------
    >>> count(1, "image"), count(2, "image", "is", "are")
    ('1 image', '2 images are')
    """
    verb = one if n == 1 else many
    return f"{n:,} {what}" + ("" if n == 1 else "s") + (f" {verb}" if verb else "")
