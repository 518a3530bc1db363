"""How a fitted head is kept in a file that holds numbers only and can't run code.

A head may have a format of its own; the others are kept in skops' format, an ensemble as the files
of its members.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from models.heads import HEADS
from models.heads.base import Format, HeadFileError, require_readable
from models.heads.ensemble import Ensemble, pack, unpack

__all__ = ["HEAD_FILES", "HeadFileError", "dump_head", "load_head"]

# skops trusts all of scikit-learn, NumPy and SciPy; heads are made of nothing but these. Besides
# what the project's own heads need they are classes that only do arithmetic on arrays which NumPy
# guards: no functions, no trees that compiled code would follow wherever their numbers lead.
_PARTS: Final = {
    "ObjectNode": {
        "sklearn.decomposition._pca.PCA",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.feature_selection._variance_threshold.VarianceThreshold",
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.MinMaxScaler",
        "sklearn.preprocessing._data.RobustScaler",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        *(part for head in HEADS.values() for part in head.parts),
    },
    "NdArrayNode": {
        f"numpy.{kind}" for kind in ("ndarray", "float32", "float64", "int32", "int64")
    },
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "JsonNode": {"builtins.str"},
    "TypeNode": {"builtins.str", "builtins.int"},
}
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)


def dump_head(estimator: Any, folder: Path) -> str:
    """Write a fitted head.

    Parameters
    ----------
    estimator : object
        As `models.heads.base.Head.refit` gives it, or an `Ensemble`.
    folder : Path

    Returns
    -------
    str
        Name of the file, one of `HEAD_FILES`.

    Raises
    ------
    HeadFileError
        If the head is made of parts that `load_head` wouldn't take.
    """
    name, data = _dump(estimator)
    (folder / name).write_bytes(data)
    return name


def load_head(name: str, data: bytes) -> Any:
    """Read what `dump_head` wrote.

    Parameters
    ----------
    name : str
        One of `HEAD_FILES`.
    data : bytes
        The file's content.

    Returns
    -------
    estimator

    Raises
    ------
    HeadFileError
        If the file is damaged or names anything but the parts of a head; nothing that it names
        is then imported or run.
    """
    return _FORMATS[name].load(data)


def _dump(estimator: Any) -> tuple[str, bytes]:
    return next(
        (name, format_.dump(estimator))
        for name, format_ in _FORMATS.items()
        if format_.holds(estimator)
    )


def _load_ensemble(data: bytes) -> Ensemble:
    def load_member(name: str, member: bytes) -> Any:
        # An ensemble in an ensemble could go on for ever.
        if name not in HEAD_FILES or _FORMATS[name] is _ENSEMBLE:
            raise HeadFileError(f"it has a member {name!r}, which is no head")
        return load_head(name, member)

    with require_readable():
        return unpack(data, load_member)


def _dump_skops(estimator: Any) -> bytes:
    import skops.io

    data = _canonical(skops.io.dumps(estimator))
    _require_plain(data)
    return data


def _load_skops(data: bytes) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    _require_plain(data)
    with require_readable(UntrustedTypesFoundException):
        return skops.io.loads(data, trusted=[])


def _require_plain(data: bytes) -> None:
    """Refuse a skops file with anything in it but the parts of a head, before skops sees it."""
    with require_readable():
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Heads are stored as they are: what would swell when unpacked is no head.
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise HeadFileError("it holds compressed data, which no head does")
            schema = json.loads(archive.read("schema.json"))
        odd = sorted(set(_odd_parts(schema)))
    if odd:
        raise HeadFileError(f"it holds {', '.join(odd)}, which no head is made of")


def _odd_parts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "__loader__" in value:
            name = f"{value['__module__']}.{value['__class__']}"
            if name not in _PARTS.get(value["__loader__"], ()):
                yield name
        for part in value.values():
            yield from _odd_parts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _odd_parts(part)


def _canonical(data: bytes) -> bytes:
    """Take out of a skops file what differs between runs: addresses in memory, and the time."""
    numbers: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return match[1] + numbers.setdefault(match[2], str(len(numbers) + 1))

    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as source,
        zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target,
    ):
        schema = re.sub(r'("__id__": )(\d+)', number, source.read("schema.json").decode())
        schema = re.sub(r'("file": ")(\d+)(?=\.npy")', number, schema)
        arrays = [entry for entry in source.infolist() if entry.filename != "schema.json"]
        for entry in sorted(arrays, key=lambda entry: int(numbers[Path(entry.filename).stem])):
            name = f"{numbers[Path(entry.filename).stem]}.npy"
            target.writestr(zipfile.ZipInfo(name, _MOMENT), source.read(entry))
        target.writestr(zipfile.ZipInfo("schema.json", _MOMENT), schema)
    return written.getvalue()


_ENSEMBLE: Final = Format(
    ".zip",
    lambda estimator: isinstance(estimator, Ensemble),
    lambda ensemble: pack(ensemble, _dump),
    _load_ensemble,
)
# The first that holds an estimator takes it; skops tries its luck with any.
_FORMATS: Final = {
    f"head{each.suffix}": each
    for each in (
        _ENSEMBLE,
        *(head.format for head in HEADS.values() if head.format),
        Format(".skops", lambda _: True, _dump_skops, _load_skops),
    )
}
HEAD_FILES: Final = tuple(_FORMATS)
