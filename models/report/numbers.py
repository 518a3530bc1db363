"""Every figure of an evaluation as a row that a person reads."""

from __future__ import annotations

from models.evaluation.values import Evaluation, Interval

__all__ = ["figures", "interval_text", "ranking"]


def figures(found: Evaluation) -> list[tuple[str, str, str]]:
    """Give name, value with interval, and the interval's method of every figure."""
    point = found.operating_point
    rows = [
        *ranking(found),
        ("sensitivity", point.sensitivity, "Wilson"),
        ("specificity", point.specificity, "Wilson"),
        ("positive predictive value, here", point.ppv, "Wilson"),
        ("negative predictive value, here", point.npv, "Wilson"),
        ("Brier score", found.brier, "bootstrap"),
        ("calibration slope", found.slope, "Wald"),
        ("calibration intercept", found.intercept, "Wald"),
    ]
    return [
        *((name, interval_text(value), method) for name, value, method in rows),
        (
            f"ECE, {min(10, found.n)} equal groups",
            f"{found.ece:.3f} (about {found.ece_by_chance:.3f} if all were right)",
            "",
        ),
        (
            "tp, fn, fp, tn",
            f"{point.tp}, {point.fn}, {point.fp}, {point.tn}",
            "",
        ),
    ]


def ranking(found: Evaluation) -> list[tuple[str, Interval | None, str]]:
    """Give the figures that depend on the order of the scores alone."""
    return [
        ("ROC AUC", found.auc, "DeLong, score"),
        ("average precision", found.average_precision, "bootstrap"),
        ("auc_sens_80 (ISIC scorer)", found.auc_sens_80, "bootstrap"),
        ("pAUC above 80 % TPR (ISIC 2024)", found.pauc, "bootstrap"),
        *(
            (
                f"specificity at {target:.0%} sensitivity".replace("%", " %"),
                value,
                "order statistics",
            )
            for target, value in found.specificity_at.items()
        ),
    ]


def interval_text(value: Interval | None) -> str:
    """Write a figure with its interval."""
    return "-" if value is None else str(value)
