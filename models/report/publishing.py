"""How a comparison becomes a bundle with its report and model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.cache.contents import Features
from models.bundle.loading import Bundle
from models.bundle.saving import save_bundle
from models.report.html import render_report
from models.report.model_card import render_card
from models.results_cache import Kept
from models.training.results import Comparison

__all__ = ["publish_bundle"]


def publish_bundle(
    folder: str | Path,
    comparison: Comparison,
    features: Features,
    *,
    weights: str | Path | None = None,
    overwrite: bool = False,
    thumbnails: bool = True,
    gallery: bool = True,
    options: Mapping[str, Any] | None = None,
    reuse: bool = False,
) -> Bundle:
    """Save the chosen head as a bundle, together with what a person reads of it.

    Parameters
    ----------
    folder, comparison, features, weights, overwrite, gallery
        As for `models.bundle.saving.save_bundle`.
    thumbnails : bool
        Whether the report shows small pictures of misjudged images, and the gallery keeps those of
        the training images.
    options : mapping, optional
        Of the command that made the comparison, by parameter name; for the report.
    reuse : bool
        Whether what depends on the embeddings alone (map, and what is like what) is taken from the
        user's cache folder, and kept there.

    Returns
    -------
    Bundle
        As it was loaded from its place.

    Raises
    ------
    BundleRefused
        As `models.bundle.saving.save_bundle` does.
    """
    kept = Kept() if reuse else None

    def render(created: str, versions: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
        report = render_report(
            comparison,
            features,
            created=created,
            versions=versions,
            thumbnails=thumbnails,
            options=options,
            kept=kept,
        )
        card = render_card(comparison, features, created=created)
        return {"report.html": report, "MODEL_CARD.md": card}

    return save_bundle(
        folder,
        comparison,
        features,
        render,
        weights=weights,
        overwrite=overwrite,
        thumbnails=thumbnails,
        gallery=gallery,
        kept=kept,
    )
