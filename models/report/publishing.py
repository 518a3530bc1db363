"""How a comparison becomes a bundle with its report and model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.cache.contents import Features
from models.bundle.loading import Bundle
from models.bundle.saving import BundleOptions, save_bundle
from models.report.html import render_report
from models.report.model_card import render_card
from models.training.results import Comparison

__all__ = ["publish_bundle"]


def publish_bundle(
    folder: str | Path,
    comparison: Comparison,
    features: Features,
    options: BundleOptions | None = None,
    *,
    command: Mapping[str, Any] | None = None,
) -> Bundle:
    """Save the chosen head as a bundle, together with what a person reads of it.

    Parameters
    ----------
    folder, comparison, features, options
        As for `models.bundle.saving.save_bundle`.
    command : mapping, optional
        Options of the command that made the comparison, by parameter name; for the report.

    Returns
    -------
    Bundle
        As it was loaded from its place.

    Raises
    ------
    BundleRefused
        As `models.bundle.saving.save_bundle` does.
    """
    asked = options or BundleOptions()

    def render(created: str, versions: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        report = render_report(
            comparison,
            features,
            created=created,
            versions=versions,
            thumbnails=asked.thumbnails,
            options=command,
            kept=asked.kept(),
        )
        card = render_card(comparison, features, created=created)
        return {"report.html": report, "MODEL_CARD.md": card}

    return save_bundle(folder, comparison, features, render, asked)
