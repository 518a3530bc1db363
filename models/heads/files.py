"""How a fitted head is kept in a file that holds numbers only and can't run code."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.errors import LesionError
from models.heads.ensemble import Ensemble, pack, unpack
from models.heads.kernel_machine import KernelMachine

__all__ = ["HEAD_FILES", "HeadFileError", "dump_head", "load_head"]

HEAD_FILES: Final = ("head.skops", "head.json", "head.safetensors", "head.zip")

# skops trusts all of scikit-learn, NumPy and SciPy; heads are made of nothing but these. Besides
# what the project's own heads need they are classes that only do arithmetic on arrays which NumPy
# guards: no functions, no trees that compiled code would follow wherever their numbers lead.
_PARTS: Final = {
    "ObjectNode": {
        "sklearn.decomposition._pca.PCA",
        "sklearn.discriminant_analysis.LinearDiscriminantAnalysis",
        "sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",
        "sklearn.feature_selection._variance_threshold.VarianceThreshold",
        "sklearn.kernel_approximation.Nystroem",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.RidgeClassifier",
        "sklearn.naive_bayes.GaussianNB",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.MinMaxScaler",
        "sklearn.preprocessing._data.RobustScaler",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.svm._classes.LinearSVC",
        "sklearn.svm._classes.SVC",
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
# What skops raises on a file that is not what it wrote, besides its own errors.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    ImportError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    EOFError,
    RecursionError,
    MemoryError,
)
_TREE_COLUMNS: Final = (
    "base_weights",
    "default_left",
    "left_children",
    "loss_changes",
    "parents",
    "right_children",
    "split_conditions",
    "split_indices",
    "split_type",
    "sum_hessian",
)
_MACHINE: Final = ("centre", "width", "support", "weights")
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)


class HeadFileError(LesionError):
    """A head's file that holds anything but a head."""


def dump_head(estimator: Any, folder: Path) -> str:
    """Write a fitted head.

    Parameters
    ----------
    estimator : scikit-learn pipeline, xgboost.XGBClassifier, KernelMachine or Ensemble
    folder : Path

    Returns
    -------
    str
        Name of the file: ``head.skops``, ``head.json`` in XGBoost's own format,
        ``head.safetensors`` for a kernel machine, or ``head.zip`` with the files of an ensemble's
        members.

    Raises
    ------
    HeadFileError
        If the head is made of parts that `load_head` wouldn't take.
    """
    if isinstance(estimator, Ensemble):
        with tempfile.TemporaryDirectory(prefix="lesion-classifier-") as aside:
            (folder / "head.zip").write_bytes(pack(estimator, dump_head, Path(aside)))
        return "head.zip"
    if isinstance(estimator, KernelMachine):
        (folder / "head.safetensors").write_bytes(_dump_machine(estimator))
        return "head.safetensors"
    if hasattr(estimator, "get_booster"):
        estimator.save_model(folder / "head.json")
        data = _as_json(json.loads((folder / "head.json").read_bytes()))
        _require_sound(data)
        (folder / "head.json").write_bytes(data)
        return "head.json"
    import skops.io

    data = _canonical(skops.io.dumps(estimator))
    _require_plain(data)
    (folder / "head.skops").write_bytes(data)
    return "head.skops"


def load_head(name: str, data: bytes) -> Any:
    """Read what `dump_head` wrote.

    Parameters
    ----------
    name : {"head.skops", "head.json", "head.safetensors", "head.zip"}
    data : bytes
        The file's content.

    Returns
    -------
    scikit-learn pipeline, xgboost.XGBClassifier, KernelMachine or Ensemble

    Raises
    ------
    HeadFileError
        If the file is damaged or names anything but the parts of a head; nothing that it names
        is then imported or run.
    """
    if name == "head.zip":
        return _load_ensemble(data)
    if name == "head.json":
        return _load_xgboost(data)
    if name == "head.safetensors":
        return _load_machine(data)
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    _require_plain(data)
    try:
        return skops.io.loads(data, trusted=[])
    except (UntrustedTypesFoundException, *_DAMAGE) as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error


def _load_ensemble(data: bytes) -> Ensemble:
    def load_member(name: str, member: bytes) -> Any:
        # An ensemble in an ensemble could go on for ever.
        if name not in HEAD_FILES[:-1]:
            raise HeadFileError(f"it has a member {name!r}, which is no head")
        return load_head(name, member)

    try:
        return unpack(data, load_member)
    except _DAMAGE as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error


def _dump_machine(machine: KernelMachine) -> bytes:
    from safetensors.numpy import save

    numbers = np.array([machine.intercept, machine.gamma])
    arrays = {name: np.ascontiguousarray(getattr(machine, name)) for name in _MACHINE}
    return bytes(save({**arrays, "numbers": numbers}))


def _load_machine(data: bytes) -> KernelMachine:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
        if set(arrays) != {*_MACHINE, "numbers"} or arrays["support"].ndim != 2:
            raise HeadFileError("it holds other arrays than a kernel machine's")
        intercept, gamma = map(float, arrays["numbers"])
        parts = {name: arrays[name] for name in _MACHINE}
        return KernelMachine(**parts, intercept=intercept, gamma=gamma)
    except (SafetensorError, *_DAMAGE) as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error


def _load_xgboost(data: bytes) -> Any:
    import xgboost

    head = xgboost.XGBClassifier()
    _require_sound(data)
    try:
        head.load_model(bytearray(data))
    except (xgboost.core.XGBoostError, *_DAMAGE) as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error
    return head


def _as_json(model: Any) -> bytes:
    return json.dumps(model, separators=(",", ":"), allow_nan=False).encode()


def _require_sound(data: bytes) -> None:
    """Refuse an XGBoost model that would make XGBoost read beyond its arrays, or run in circles.

    It trusts what it loads: a damaged model can bring the whole process down.
    """
    try:
        model = json.loads(data)
        # What is written anew byte for byte means the same to any parser.
        if _as_json(model) != data:
            raise HeadFileError("it is not as it was written")
        learner = model["learner"]
        shape, booster = learner["learner_model_param"], learner["gradient_booster"]
        trees, inputs = booster["model"]["trees"], int(shape["num_feature"])
        rounds = booster["model"]["iteration_indptr"]
        sound = (
            (booster["name"], learner["objective"]["name"]) == ("gbtree", "binary:logistic")
            and (int(shape["num_class"]), int(shape["num_target"])) == (0, 1)
            and int(booster["model"]["gbtree_model_param"]["num_trees"]) == len(trees)
            and booster["model"]["tree_info"] == [0] * len(trees)
            and rounds == list(range(len(trees) + 1))
            and all(_is_sound(tree, inputs) for tree in trees)
        )
    except _DAMAGE as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error
    if not sound:
        raise HeadFileError("its trees make no sense")


def _is_sound(tree: dict[str, Any], inputs: int) -> bool:
    known = tree["tree_param"]
    n = int(known["num_nodes"])
    columns = [tree[name] for name in _TREE_COLUMNS]
    if n < 1 or any(len(column) != n for column in columns):
        return False
    numbers = all(type(value) in {int, float} for column in columns for value in column)
    left, right, features = tree["left_children"], tree["right_children"], tree["split_indices"]
    return (
        numbers
        and (int(known["num_deleted"]), int(known["num_feature"])) == (0, inputs)
        and int(known["size_leaf_vector"]) <= 1
        and not any(tree["split_type"])
        and not any(tree[name] for name in tree if name.startswith("categories"))
        and all(type(value) is int for column in (left, right, features) for value in column)
        # Children come after their parents, so every path ends.
        and all(
            (one, other) == (-1, -1) or node < min(one, other) <= max(one, other) < n
            for node, (one, other) in enumerate(zip(left, right, strict=True))
        )
        and all(0 <= feature < inputs for feature in features)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _require_plain(data: bytes) -> None:
    """Refuse a skops file with anything in it but the parts of a head, before skops sees it."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Heads are stored as they are: what would swell when unpacked is no head.
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise HeadFileError("it holds compressed data, which no head does")
            schema = json.loads(archive.read("schema.json"))
        odd = sorted(set(_odd_parts(schema)))
    except _DAMAGE as error:
        raise HeadFileError(f"it can't be read ({_first_line(error)})") from error
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
