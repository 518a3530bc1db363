"""The folder in which a user's programs keep what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["user_cache"]


def user_cache(part: str) -> Path:
    """Give the folder of a part of what is kept; it need not exist.

    Parameters
    ----------
    part : str
        Such as ``"networks"``.

    Returns
    -------
    Path
        Within the folder that ``LESION_CACHE`` names, or else within the user's cache folder.
    """
    kept = os.environ.get("LESION_CACHE") or platformdirs.user_cache_path("lesion-classifier")
    return Path(kept) / part
