"""What the columns of tables are called, in published collections and elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from features.datasets.vocabulary import canonical_class, is_known_class, plain, words

__all__ = [
    "GROUP_COLUMNS",
    "ID_COLUMNS",
    "LABEL_COLUMNS",
    "METADATA_COLUMNS",
    "NO_CLASSES",
    "SPLIT_COLUMNS",
    "Collection",
    "class_columns",
    "find_collection",
    "headerless_flags",
    "named_like",
    "spelt",
]

ID_COLUMNS: Final = (
    *("image", "image id", "image name", "isic id", "img id", "img", "image file", "image path"),
    *("filename", "file name", "file", "filepath", "file path", "path", "name", "id", "picture"),
    *("photo", "photo id", "lesion image", "bild", "bildname", "dateiname", "fichier", "imagen"),
    *("nom fichier", "nombre imagen", "immagine", "imagem"),
)
LABEL_COLUMNS: Final = (
    *("dx", "diagnosis", "diagnostic", "label", "labels", "class", "class name", "category"),
    *("benign malignant", "target", "ground truth", "truth", "diagnose", "diagnostico"),
    *("klasse", "befund", "classe", "clase", "diagnosi", "diagnóstico"),
)
# Whoever is one patient has one or more lesions, of which each has one or more images.
GROUP_COLUMNS: Final = (
    (
        *("patient id", "patient", "patientid", "patient number", "patient no", "patient nr"),
        *("subject id", "subject", "pat id", "patid", "patienten id", "patientennummer"),
        *("patient name", "id patient", "identifiant patient", "id paciente", "paciente", "mrn"),
    ),
    ("lesion id", "lesionid", "lesion number", "case id", "case num", "lesion", "fallnummer"),
)
SPLIT_COLUMNS: Final = ("split", "set", "partition", "subset", "fold name", "part", "usage")
METADATA_COLUMNS: Final = {
    "age": ("age", "age approximate", "age approx", "age years", "patient age", "alter"),
    "sex": ("sex", "gender", "patient sex", "geschlecht", "sexe", "sexo"),
    "site": (
        *("site", "localization", "localisation", "location", "anatom site general"),
        *("anatom site general challenge", "anatom site", "anatom site 1", "region"),
    ),
}
# Columns of 0 and 1, or of a few numbers, that are no classes.
NO_CLASSES: Final = frozenset(
    {
        *("score weight", "validation weight", "weight", "fold", "index", "unnamed 0", "row"),
        *("nr", "no", "number", "lfd nr", "row number"),
        *("melanocytic", "concomitant biopsy", "biopsed", "biopsied", "personal hx mm"),
        *("family hx mm", "smoke", "drink", "pesticide", "skin cancer history", "cancer history"),
        *("has piped water", "has sewage system", "itch", "grew", "hurt", "changed", "bleed"),
        *("elevation", "mel ulcer", "is train", "is test", "dermoscopic", "copyright license"),
        *(name for names in METADATA_COLUMNS.values() for name in names),
        *(name for names in GROUP_COLUMNS for name in names),
    }
)


@dataclass(frozen=True)
class Collection:
    """A published collection, known by the columns of a table of it.

    Parameters
    ----------
    name : str
    columns : frozenset of str
        That its table has, as `spelt` gives them.
    id_column : str
    label_column : str, optional
        Of class names or flags; empty where it has a column for each class, or none.
    names : mapping of str to str
        What the values of the label column mean.
    """

    name: str
    columns: frozenset[str]
    id_column: str
    label_column: str = ""
    names: Mapping[str, str] = field(default_factory=dict)


_BINARY: Final = {"0": "benign", "1": "malignant"}
_COLLECTIONS: Final = (
    Collection(
        "SIIM-ISIC 2020",
        frozenset({"image name", "benign malignant", "target"}),
        "image name",
        "benign malignant",
    ),
    Collection(
        "ISIC 2024",
        frozenset({"isic id", "target", "tbp lv location"}),
        "isic id",
        "target",
        _BINARY,
    ),
    Collection("HAM10000", frozenset({"image id", "lesion id", "dx"}), "image id", "dx"),
    Collection(
        "PAD-UFES-20", frozenset({"img id", "diagnostic", "patient id"}), "img id", "diagnostic"
    ),
    Collection(
        "Derm7pt", frozenset({"derm", "clinic", "diagnosis", "case num"}), "derm", "diagnosis"
    ),
    Collection(
        "PH2",
        frozenset({"name", "histological diagnosis", "clinical diagnosis"}),
        "name",
        "clinical diagnosis",
        {"0": "common nevus", "1": "atypical nevus", "2": "melanoma"},
    ),
    Collection("ISIC 2019", frozenset({"image", "mel", "nv", "scc", "unk"}), "image"),
    Collection("ISIC 2018", frozenset({"image", "mel", "nv", "akiec", "vasc"}), "image"),
    Collection(
        "ISIC 2017", frozenset({"image id", "melanoma", "seborrheic keratosis"}), "image id"
    ),
)


def spelt(column: str) -> str:
    """Give a column's name as it is compared: words in lower case.

    Examples
    --------
    >>> spelt("Image_ID"), spelt("lesion_id"), spelt("ImageName")
    ('image id', 'lesion id', 'image name')
    """
    return " ".join(words(column)) or plain(column)


def find_collection(columns: Iterable[str]) -> Collection | None:
    """Recognise a published collection by the columns of its table."""
    found = {spelt(column) for column in columns}
    return next((known for known in _COLLECTIONS if known.columns <= found), None)


def named_like(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Give the columns that are called so, in the order of the names."""
    by_name: dict[str, list[str]] = {}
    for column in columns:
        by_name.setdefault(spelt(column), []).append(column)
    return [column for name in names for column in by_name.get(name, ())]


def headerless_flags(stem: str) -> tuple[str, str]:
    """Name what 0 and 1 mean in a table without a header, by the name of its file.

    ISIC 2016 gives benign and malignant so; elsewhere nobody knows, and they stay 0 and 1.
    """
    found = set(words(stem))
    return ("benign", "malignant") if "2016" in found and found & {"isic", "isbi"} else ("0", "1")


def class_columns(columns: Sequence[str]) -> list[str]:
    """Give those of the columns of 0 and 1 that name classes: the known ones, else all."""
    candidates = [column for column in columns if spelt(column) not in NO_CLASSES]
    known = [
        column
        for column in candidates
        if is_known_class(column) or canonical_class(column) in {"unk", "unknown"}
    ]
    return known if any(is_known_class(column) for column in known) else candidates
