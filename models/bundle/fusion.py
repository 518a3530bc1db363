"""How a fusion with age, sex and site is kept in a bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from models.bundle.manifest import MANIFEST, altered
from models.decisions.calibrators import Calibration, Platt
from models.decisions.decision import Decision
from models.patients.encoding import NAMES, blocks
from models.patients.fusion import FUSION, FusedHead, Fusion

if TYPE_CHECKING:
    from models.training.results import Comparison

__all__ = ["dump_fusion", "load_fusion"]

_FIELDS: Final = {
    "title", "kinds", "log_odds", "typical", "means", "scales", "coefficients", "intercept",
    "calibration", "threshold", "threshold_rule", "zone", "metrics",
}  # fmt: skip


_MOST_KINDS: Final = 1000


_LARGEST: Final = 1e9


def dump_fusion(comparison: Comparison) -> dict[str, Any]:
    """Give the field of a bundle's manifest; nothing where there was no metadata.

    Returns
    -------
    dict
    """
    result = comparison.heads.get(FUSION)
    if result is None:
        return {}
    fusion: Fusion = result.estimator
    return {
        FUSION: {
            "title": result.title,
            "kinds": {name: list(known) for name, known in fusion.kinds.items()},
            "log_odds": fusion.log_odds.as_dict(),
            "typical": list(fusion.typical),
            "means": list(fusion.means),
            "scales": list(fusion.scales),
            "coefficients": list(fusion.coefficients),
            "intercept": fusion.intercept,
            **result.decision.as_dict(),
            "metrics": result.metrics(),
        }
    }


def load_fusion(folder: Path, values: Mapping[str, Any]) -> FusedHead | None:
    """Read the field of a bundle's manifest.

    Parameters
    ----------
    folder : Path
        To be named where something is wrong.
    values : mapping
        The manifest.

    Returns
    -------
    FusedHead or None

    Raises
    ------
    BundleRefused
        If its values make no sense.
    """
    if values[FUSION] is None:
        return None
    try:
        return _read(values[FUSION])
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise altered(folder, f"{MANIFEST} has a {FUSION} without sense ({error})") from error


def _read(values: Mapping[str, Any]) -> FusedHead:
    if odd := sorted(set(values) ^ _FIELDS):
        raise ValueError(f"missing or unknown fields: {', '.join(odd)}")
    kinds = _read_kinds(values["kinds"])
    log_odds, decision = Calibration.from_dict(values["log_odds"]), Decision.from_dict(values)
    if not isinstance(log_odds, Platt):
        raise ValueError("the log-odds are not those of a sigmoid")
    width = 1 + max(block.stop for block in blocks(kinds))
    typical = _read_numbers("typical", values["typical"], width - 1)
    means, scales, coefficients = (
        _read_numbers(name, values[name], width) for name in ("means", "scales", "coefficients")
    )
    if min(scales) <= 0:
        raise ValueError("a scale is not above 0")
    (intercept,) = _read_numbers("intercept", [values["intercept"]], 1)
    if decision.zone is None:
        raise ValueError("it has no zone")
    if not isinstance(values["title"], str) or not isinstance(values["metrics"], dict):
        raise ValueError("a title or figures of a wrong type")
    return FusedHead(
        title=values["title"],
        fusion=Fusion(kinds, log_odds, typical, means, scales, coefficients, intercept),
        decision=decision,
        metrics=values["metrics"],
    )


def _read_kinds(values: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if not values or [name for name in NAMES if name in values] != list(values):
        raise ValueError(f"inputs {', '.join(values) or 'of no kind'}, expected {', '.join(NAMES)}")
    for name, known in values.items():
        if not isinstance(known, list) or not all(isinstance(kind, str) for kind in known):
            raise ValueError(f"the categories of {name} are no words")
        if known != sorted(set(known)) or len(known) > _MOST_KINDS or (name == "age" and known):
            raise ValueError(f"the categories of {name} are not in order, or too many")
    return {name: tuple(known) for name, known in values.items()}


def _read_numbers(name: str, values: Any, length: int) -> tuple[float, ...]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"{name} are not {length} numbers")
    for value in values:
        if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > _LARGEST:
            raise ValueError(f"{name} has {value!r}, expected a finite number")
    return tuple(map(float, values))
