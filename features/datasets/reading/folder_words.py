"""Words in the names of folders that say neither a class nor a split."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

__all__ = ["COUNTED", "FILLERS", "GRADED", "beside_known"]

# Words that say how images are kept, not what they show.
FILLERS: Final = frozenset(
    {
        *("image", "images", "img", "imgs", "picture", "pictures", "pics", "photo", "photos"),
        *("data", "dataset", "datasets", "set", "sets", "split", "splits", "input", "inputs"),
        *("file", "files", "part", "parts", "batch", "chunk", "shard", "dir", "folder", "vol"),
        *("volume", "disk", "jpg", "jpeg", "png", "tif", "tiff", "bmp", "raw", "original"),
        *("originals", "all", "full", "dermoscopy", "dermoscopic", "dermatoscopic", "derm"),
        *("clinical", "clinic", "macroscopic", "fold", "folds", "archive", "unzipped", "extracted"),
        *("download", "downloads", "series", "session", "visit", "export", "upload", "uploads"),
        *("resized", "cropped", "size", "px", "x", "v", "version", "final", "copy", "new", "task"),
        *("challenge", "lesions", "skin", "cancer", "isic", "isbi", "siim", "ham", "ph", "pad"),
        *("ufes", "derm", "pt", "bcn", "msk", "uda", "med", "node", "kaggle", "db", "collection"),
        *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
        *("october", "november", "december", "root", "public", "private", "cohort", "and"),
        *("jan", "feb", "mar", "apr", "jun", "jul", "sep", "sept", "oct", "nov", "dec"),
        *("daten", "datensatz", "satz", "menge", "bilder", "bild"),
        *("gt", "ground", "truth", "groundtruth", "label", "labels", "meta", "metadata", "csv"),
        *("tmp", "temp", "backup", "untitled", "dcim", "camera", "ordner", "neuer", "dossier"),
    }
)
# Numbered names of what is one of many, and no class.
COUNTED: Final = frozenset(
    {"patient", "pat", "p", "case", "lesion", "subject", "imd", "scan", "person", "id", "exam"}
)
GRADED: Final = frozenset({"class", "grade", "type", "category", "label", "stage", "cls", "kind"})


def beside_known(known: Collection[str], others: Collection[str]) -> list[str]:
    """Tell of classes that are no diagnosis beside some that are: they may be left-overs."""
    if not known or not others:
        return []
    some = ", ".join(map(repr, sorted(others)[:3]))
    return [
        f"{some} {'was' if len(others) == 1 else 'were'} taken for "
        f"{'a class' if len(others) == 1 else 'classes'} beside {min(known)!r}: say --folder "
        "NAME=none or =skip of what is none"
    ]
