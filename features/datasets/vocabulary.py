"""What people call things: missing values, flags, sexes, sites, splits and classes.

The one vocabulary of extraction, training, evaluation, classification, form and API.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Final

__all__ = [
    "AMBIGUOUS_SPLITS",
    "SPLIT_NAMES",
    "all_flags",
    "canonical_class",
    "contains_class",
    "contradict",
    "flag",
    "folder_words",
    "is_known_class",
    "is_missing",
    "may_be",
    "number",
    "plain",
    "same_class",
    "sex",
    "site",
    "split_of",
    "whole_number",
    "words",
]

_MISSING: Final = frozenset(
    {
        *("", "-", "--", "?", "??", ".", "na", "n/a", "n.a", "#n/a", "nan", "nat", "nd", "n.d"),
        *("none", "null", "nil", "unk", "unknown", "not known", "not available", "not recorded"),
        *("not reported", "not provided", "not specified", "unspecified", "missing", "undefined"),
        *("undetermined", "not determined", "to be determined", "tbd", "tba", "pending", "\\n"),
        *("not applicable", "no data", "no diagnosis", "missing data", "unlabelled", "unlabeled"),
        *("unclassified", "unsorted", "unbekannt", "nicht bekannt", "keine angabe", "k.a", "k. a"),
        *("ohne angabe", "inconnu", "non renseigné", "desconocido", "sconosciuto"),
        *("#ref!", "#value!", "#name?", "#num!", "#null!", "#div/0!"),
    }
)
_DASHES: Final = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_MISSING_NUMBER: Final = re.compile(r"-(1|9+)([.,]0*)?")
_WHOLE: Final = re.compile(r"\A(\d+)\.0+\Z")
_FLAGS: Final = {
    **dict.fromkeys(("true", "yes", "y", "ja", "oui", "si", "sí"), True),
    **dict.fromkeys(("false", "no", "n", "nein", "non"), False),
}
_FLAG_NUMBER: Final = re.compile(r"([01])([.,]0*)?")
_SEXES: Final = {
    **dict.fromkeys(
        ("female", "f", "fem", "woman", "women", "w", "girl", "weiblich", "frau", "femme"), "female"
    ),
    **dict.fromkeys(("féminin", "feminin", "femenino", "mujer", "femmina", "vrouw"), "female"),
    **dict.fromkeys(("male", "m", "man", "men", "boy", "männlich", "mann", "homme"), "male"),
    **dict.fromkeys(("masculin", "masculino", "hombre", "maschio"), "male"),
}
_SITES: Final = {
    **dict.fromkeys(("head and neck", "head & neck", "head neck", "head/neck"), "head/neck"),
    **dict.fromkeys(("palms and soles", "palms & soles", "palms/soles"), "palms/soles"),
    **dict.fromkeys(("oral and genital", "oral & genital", "oral/genital"), "oral/genital"),
    **dict.fromkeys(
        ("upper extremities", "upper limb", "upper limbs", "upper extremity"), "upper extremity"
    ),
    **dict.fromkeys(
        ("lower extremities", "lower limb", "lower limbs", "lower extremity"), "lower extremity"
    ),
}
SPLIT_NAMES: Final = {
    **dict.fromkeys(("train", "training", "trn", "trainings"), "train"),
    **dict.fromkeys(("entraînement", "entrainement", "apprentissage", "entrenamiento"), "train"),
    **dict.fromkeys(
        ("addestramento", "treino", "treinamento", "обучение", "训练", "訓練"), "train"
    ),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "valid"),
    **dict.fromkeys(("validierung", "validierungs", "validación", "validacion"), "valid"),
    **dict.fromkeys(("validazione", "validação", "validacao", "валидация", "验证"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout", "tests"), "test"),
    **dict.fromkeys(("prueba", "pruebas", "teste", "тест", "测试", "テスト"), "test"),
}
# May be either of the two that are not trained on.
AMBIGUOUS_SPLITS: Final = frozenset({"eval", "evaluation"})

_CLASSES: Final = {
    "melanoma": (
        *("mel", "melanomas", "malignant melanoma", "cutaneous melanoma", "melanom", "mm"),
        *("melanoma maligno", "malignes melanom", "melanoma nos", "mélanome"),
    ),
    "nevus": (
        *("nv", "nev", "nevi", "naevus", "naevi", "melanocytic nevus", "melanocytic nevi"),
        *("melanocytic naevus", "mole", "nevo", "benign nevus", "nevus nos"),
    ),
    "common nevus": ("common naevus", "common nevi"),
    "atypical nevus": ("atypical naevus", "dysplastic nevus", "clark nevus", "atypical nevi"),
    "blue nevus": (),
    "congenital nevus": (),
    "combined nevus": (),
    "dermal nevus": (),
    "recurrent nevus": (),
    "reed or spitz nevus": ("spitz nevus", "reed nevus"),
    "melanoma in situ": ("melanoma insitu", "mis"),
    "melanoma metastasis": (),
    "lentigo maligna": (),
    "basal cell carcinoma": ("bcc", "basalioma", "basal cell carcinomas"),
    "squamous cell carcinoma": ("scc", "squamous cell carcinomas", "spinalioma"),
    "actinic keratosis": (
        *("ak", "ack", "akiec", "actinic keratoses", "solar keratosis"),
        "actinic keratoses and intraepithelial carcinoma",
    ),
    "bowen disease": ("bowens disease", "bowen s disease"),
    "benign keratosis": (
        *("bkl", "benign keratosis like lesion", "benign keratosis like lesions"),
        "pigmented benign keratosis",
    ),
    "seborrheic keratosis": ("sk", "sek", "seborrhoeic keratosis", "seborrheic keratoses"),
    "solar lentigo": (),
    "lentigo": ("lentigo nos", "lentigo simplex"),
    "lichen planus like keratosis": ("lplk", "lichenoid keratosis"),
    "dermatofibroma": ("df", "dermatofibromas"),
    "vascular lesion": ("vasc", "vascular", "vascular lesions"),
    "angioma": (),
    "hemangioma": ("haemangioma",),
    "melanosis": (),
    "benign": ("benigno", "gutartig", "bénin", "non malignant", "not malignant", "harmless"),
    "malignant": ("malign", "maligno", "malin", "bösartig", "cancer", "cancerous"),
    "other": ("others", "rest", "miscellaneous", "misc"),
    "positive": ("pos",),
    "negative": ("neg",),
}
_CANONICAL: Final = {
    **{name: name for name in _CLASSES},
    **{also: name for name, called in _CLASSES.items() for also in called},
}
# Of these one is a kind of the other, so that they don't contradict each other.
_KINDS: Final = {
    "nevus": {"common nevus", "atypical nevus", "blue nevus", "congenital nevus", "combined nevus"}
    | {"dermal nevus", "recurrent nevus", "reed or spitz nevus"},
    "melanoma": {"melanoma in situ", "melanoma metastasis", "lentigo maligna"},
    "benign keratosis": {"seborrheic keratosis", "solar lentigo", "lichen planus like keratosis"},
    "actinic keratosis": {"bowen disease", "squamous cell carcinoma"},
    "lentigo": {"solar lentigo"},
    "vascular lesion": {"angioma", "hemangioma"},
}
_MALIGNANT: Final = frozenset(
    {"malignant", "melanoma", *_KINDS["melanoma"], "basal cell carcinoma"}
    | {"squamous cell carcinoma", "target", "positive"}
)
# Columns of 0 and 1 that tell harmful from harmless, as all collections use them.
_OPPOSITES: Final = {
    **dict.fromkeys(("not target", "not malignant", "not positive"), "benign"),
    **dict.fromkeys(("not benign", "not negative"), "malignant"),
}
_BENIGN: Final = frozenset(
    {"benign", "nevus", *_KINDS["nevus"], "benign keratosis", *_KINDS["benign keratosis"]}
    | {
        "dermatofibroma",
        "vascular lesion",
        *_KINDS["vascular lesion"],
        "lentigo",
        "melanosis",
        "not target",
        "negative",
    }
)
_KEPT_IN: Final = (
    "set|sets|data|dataset|datasets|images|image|imgs|img|input|files|folder|split|part|"
    "daten|datensatz|satz|menge|bilder"
)
_AROUND: Final = frozenset(_KEPT_IN.split("|"))
_LONGEST_FIRST: Final = sorted((*SPLIT_NAMES, *AMBIGUOUS_SPLITS), key=len, reverse=True)
_COMPOUND: Final = re.compile(
    rf"(?:({_KEPT_IN})?({'|'.join(_LONGEST_FIRST)})"
    rf"({_KEPT_IN})?)"
)
_NEGATIONS: Final = ("not", "non", "no")
_CAMEL: Final = re.compile(r"(?<=[a-zß-ÿ])(?=[A-Z])")
_WORD: Final = re.compile(r"[^\W\d_]+|\d+")


def plain(text: str) -> str:
    """Give text in one spelling: composed letters, lower case, single spaces, none around."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@functools.lru_cache(2**16)
def words(text: str) -> tuple[str, ...]:
    """Split a name into words and numbers.

    Examples
    --------
    >>> words("ISIC-2017_Test_v2_Data"), words("NotMelanoma")
    (('isic', '2017', 'test', 'v', '2', 'data'), ('not', 'melanoma'))
    """
    composed = unicodedata.normalize("NFKC", text)
    return tuple(_WORD.findall(_CAMEL.sub(" ", composed).casefold()))


@functools.lru_cache(2**16)
def folder_words(text: str) -> tuple[str, ...]:
    """Split the name of a folder or file into words, also where a split is written in one.

    Examples
    --------
    >>> folder_words("TrainSet"), folder_words("testdata"), folder_words("imgs_val")
    (('train', 'set'), ('test', 'data'), ('imgs', 'val'))
    """
    found: list[str] = []
    for word in words(text):
        match = _COMPOUND.fullmatch(word)
        found += [part for part in match.groups() if part] if match else [word]
    return tuple(found)


def is_missing(text: str) -> bool:
    """Say whether a value means that nothing is known, such as ``NA``, ``unknown`` or ``-1``."""
    spelt = plain(text)
    if not spelt.isascii():
        spelt = spelt.translate(_DASHES)
    if spelt in _MISSING:
        return True
    if spelt[0].isalnum() and spelt[-1].isalnum():
        return False
    bare = spelt.strip("<>()[]{}'\"").rstrip(".").strip()
    return (
        not bare.strip("-?._/*") or bare in _MISSING or _MISSING_NUMBER.fullmatch(spelt) is not None
    )


def flag(text: str) -> bool | None:
    """Read 0 and 1, however they are written; None for anything else.

    Examples
    --------
    >>> flag("1.00"), flag("0,0"), flag("TRUE"), flag("no"), flag("0.5")
    (True, False, True, False, None)
    """
    if found := _FLAG_NUMBER.fullmatch(text.strip()):
        return found[1] == "1"
    return _FLAGS.get(plain(text))


def all_flags(values: Iterable[str]) -> bool:
    """Say whether values are 0 and 1, or missing, and not all missing."""
    found = {value for value in values if not is_missing(value)}
    return bool(found) and all(flag(value) is not None for value in found)


def number(text: str) -> float | None:
    """Read a finite number with a decimal point or comma; None if it is none."""
    try:
        value = float(text.strip().replace(",", ".") if text.count(",") == 1 else text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole_number(text: str) -> str:
    """Give a number such as ``12.0`` without its zeros after the point; other text as it is."""
    return _WHOLE.sub(r"\1", text)


def sex(text: str) -> str | None:
    """Give ``"female"`` or ``"male"`` for a word that means it; None if it is not understood."""
    return _SEXES.get(plain(text))


def site(text: str) -> str:
    """Give a part of the body in one spelling."""
    spelt = plain(text.replace("_", " "))
    return _SITES.get(spelt, spelt)


def split_of(text: str) -> str | None:
    """Give ``"train"``, ``"valid"`` or ``"test"`` for a word that means it, else None.

    Examples
    --------
    >>> split_of("Hold-out"), split_of("training set"), split_of("train+val")
    ('test', 'train', None)
    """
    if known := SPLIT_NAMES.get(plain(text).replace("-", "").replace("_", "").replace(" ", "")):
        return known
    told = [word for word in folder_words(text) if word not in _AROUND]
    return SPLIT_NAMES.get(told[0]) if len(told) == 1 else None


@functools.lru_cache(2**16)
def canonical_class(label: str) -> str:
    """Give the name by which classes are compared; what is not known is only spelt plainly.

    Examples
    --------
    >>> canonical_class("MEL"), canonical_class("NotMelanoma"), canonical_class("naevus")
    ('melanoma', 'not melanoma', 'nevus')
    """
    spelt = " ".join(words(label)) or plain(label)
    if spelt in _CANONICAL:
        return _CANONICAL[spelt]
    joined = spelt.replace(" ", "")
    if joined in _CANONICAL:
        return _CANONICAL[joined]
    for negation in _NEGATIONS:
        if rest := _after(spelt, f"{negation} "):
            return f"not {_CANONICAL.get(rest, rest)}"
        if (rest := _after(joined, negation)) in _CANONICAL:
            return f"not {_CANONICAL[rest]}"
    # What is no word may be all that tells two classes apart: "HER+" and "HER-".
    return plain(label) if re.search(r"[^\w\s\-./(),]|[+-]$", label) else spelt


def _after(text: str, start: str) -> str:
    return text[len(start) :] if text.startswith(start) else ""


def same_class(one: str, other: str) -> bool:
    """Say whether two labels name the same class, such as ``MEL`` and ``melanoma``."""
    return canonical_class(one) == canonical_class(other)


def is_known_class(label: str) -> bool:
    """Say whether a word names a diagnosis, or that there is none such."""
    found = canonical_class(label)
    return found in _CLASSES or found.removeprefix("not ") in _CLASSES


def contains_class(label: str, name: str) -> bool:
    """Say whether a label names a kind of a class: all its words, none of them negated.

    Examples
    --------
    >>> contains_class("melanoma (in situ)", "melanoma"), contains_class("NotMelanoma", "melanoma")
    (True, False)
    """
    found, wanted = words(canonical_class(label)), words(canonical_class(name))
    if not wanted or found == wanted or {"not", "non", "no"} & set(found):
        return False
    if canonical_class(label) in _KINDS.get(canonical_class(name), ()):
        return True
    count = len(wanted)
    return any(found[at : at + count] == wanted for at in range(len(found) - count + 1))


def may_be(label: str, name: str) -> bool:
    """Say whether a label may mean a class by another name: one of its kinds, or a vague word."""
    found = canonical_class(label)
    if found == canonical_class(name):
        return False
    vague = found in {"malignant", "target", "positive", "suspicious", "true", "1"}
    return vague or contains_class(label, name)


def contradict(one: str, other: str, compared: Collection[str] = ()) -> bool:
    """Say whether an image can't be of both classes.

    Parameters
    ----------
    one, other : str
        Labels from two sources, such as a folder and a table.
    compared : collection of str
        Canonical names of classes that both sources tell apart.

    Examples
    --------
    >>> contradict("NotMelanoma", "mel"), contradict("NotMelanoma", "nevus")
    (True, False)
    >>> contradict("not target", "melanoma"), contradict("not malignant", "nevus")
    (True, False)
    """
    first, second = (
        _OPPOSITES.get(name, name) for name in (canonical_class(one), canonical_class(other))
    )
    if first == second:
        return False
    for a, b in ((first, second), (second, first)):
        if a.startswith("not "):
            if b.startswith("not "):
                return False
            return b == a.removeprefix("not ") or contains_class(b, a.removeprefix("not "))
        if b in _KINDS.get(a, ()):
            return False
    kinds = [_malignancy(first), _malignancy(second)]
    if None not in kinds and (kinds[0] != kinds[1]):
        return True
    if {first, second} & {"benign", "malignant", "target", "positive", "negative"}:
        return False
    known = [name in _CLASSES and name != "other" for name in (first, second)]
    return all(known) or first in compared or second in compared


def _malignancy(name: str) -> bool | None:
    if name in _MALIGNANT:
        return True
    return False if name in _BENIGN else None
