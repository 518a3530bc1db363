"""The ensemble: a head that averages the scores of others, made from what they already found.

Scores of different heads are on different scales, so each member's are standardised first, by
their mean and deviation over the out-of-fold scores. A member's settings and the ensemble's scales
are the only things fitted; it costs no more training than its members did.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.heads.base import score

__all__ = [
    "ENSEMBLE",
    "MEMBERS",
    "TITLE",
    "Ensemble",
    "Scale",
    "average",
    "pack",
    "side_by_side",
    "unpack",
]

Floats = npt.NDArray[np.float64]

ENSEMBLE: Final = "ensemble"
TITLE: Final = "Ensemble"
MEMBERS: Final = ("logistic_regression", "svm")

_ABOUT: Final = "ensemble.json"
_MOMENT: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Scale:
    """How a member's scores are standardised.

    Parameters
    ----------
    centre, width : float
        Mean and standard deviation of its out-of-fold scores.
    """

    centre: float
    width: float


@dataclass(frozen=True)
class Ensemble:
    """A fitted head that is the mean of other fitted heads.

    Parameters
    ----------
    members : dict of str to estimator
        As `models.heads.base.score` takes them, by name.
    scales : dict of str to Scale
        By the same names.
    columns : dict of str to slice
        By the same names, which part of an embedding each is given; all of it where there are none.
    """

    members: dict[str, Any]
    scales: dict[str, Scale]
    columns: dict[str, slice] = field(default_factory=dict)

    @property
    def classes_(self) -> npt.NDArray[np.int64]:
        """The two classes, 0 and 1."""
        return np.array([0, 1])

    @property
    def n_features_in_(self) -> int | None:
        """Length of an embedding; None where the members don't agree on one."""
        lengths = {member.n_features_in_ for member in self.members.values()}
        if self.columns:
            fit = all(
                self.columns[name].stop - self.columns[name].start == member.n_features_in_
                for name, member in self.members.items()
            )
            lengths = {max(part.stop for part in self.columns.values())} if fit else set()
        return int(lengths.pop()) if len(lengths) == 1 else None

    def decision_function(self, X: npt.ArrayLike) -> Floats:
        """Give the mean of the members' standardised scores.

        Parameters
        ----------
        X : array-like, shape (n, d)
            Embeddings.

        Returns
        -------
        ndarray of float, shape (n,)
            Higher means more likely positive; not calibrated.
        """
        rows = np.asarray(X)
        return self.combine(
            {
                name: score(member, rows[:, self.columns.get(name, slice(None))])
                for name, member in self.members.items()
            }
        )

    def combine(self, scores: Mapping[str, Floats]) -> Floats:
        """Average scores that the members, by name, already gave to the same images."""
        return _mean(scores, self.scales)


def side_by_side(ensemble: Ensemble, columns: Mapping[str, slice]) -> Ensemble:
    """Give each member a part of the embedding of its own.

    Parameters
    ----------
    ensemble : Ensemble
        Its members may be ensembles, each of as many members.
    columns : mapping of str to slice
        By the names of the members.

    Returns
    -------
    Ensemble
        Without ensembles in it, and with the same scores.
    """
    members: dict[str, Any] = {}
    scales: dict[str, Scale] = {}
    parts: dict[str, slice] = {}
    for name, member in ensemble.members.items():
        outer = ensemble.scales[name]
        inner = member if isinstance(member, Ensemble) else None
        for key, one in (inner.members if inner else {"": member}).items():
            within = inner.scales[key] if inner else Scale(0.0, 1.0)
            called = f"{name}, {key}" if inner else name
            members[called], parts[called] = one, columns[name]
            scales[called] = Scale(
                within.centre + within.width * outer.centre, within.width * outer.width
            )
    return Ensemble(members, scales, parts)


def average(scores: Mapping[str, Floats]) -> tuple[Floats, dict[str, Scale]]:
    """Average out-of-fold scores.

    Parameters
    ----------
    scores : mapping of str to ndarray, shape (n,)
        Each member's, of the same images.

    Returns
    -------
    mean : ndarray, shape (n,)
        Of the standardised scores.
    scales : dict of str to Scale
        To standardise the scores of other images by.

    Examples
    --------
    >>> import numpy as np
    >>> mean, scales = average({"one": np.array([0.0, 2.0]), "two": np.array([30.0, 10.0])})
    >>> mean.tolist(), scales["two"]
    ([0.0, 0.0], Scale(centre=20.0, width=10.0))
    """
    # Scores that are all the same say nothing, whatever they are divided by.
    scales = {
        name: Scale(float(found.mean()), float(found.std()) or 1.0)
        for name, found in scores.items()
    }
    return _mean(scores, scales), scales


def _mean(scores: Mapping[str, Floats], scales: Mapping[str, Scale]) -> Floats:
    standardised = [
        (found - scales[name].centre) / scales[name].width for name, found in scores.items()
    ]
    return np.asarray(np.mean(standardised, axis=0), np.float64)


def pack(ensemble: Ensemble, dump: Callable[[Any], tuple[str, bytes]]) -> bytes:
    """Put an ensemble into one file's content, the same for the same ensemble.

    Parameters
    ----------
    ensemble : Ensemble
    dump : callable
        Gives a member's file name and content.

    Returns
    -------
    bytes
        An uncompressed ZIP archive: a table of the members, and each as `dump` gave it.
    """
    about, contents = [], []
    for number, (name, member) in enumerate(ensemble.members.items()):
        file, data = dump(member)
        scale = ensemble.scales[name]
        entry = {"name": name, "file": file, "centre": scale.centre, "width": scale.width}
        if (part := ensemble.columns.get(name)) is not None:
            entry["columns"] = [part.start, part.stop]
        about.append(entry)
        contents.append((f"{number}/{file}", data))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        table = json.dumps(about, allow_nan=False).encode()
        for path, data in [(_ABOUT, table), *contents]:
            archive.writestr(zipfile.ZipInfo(path, _MOMENT), data)
    return written.getvalue()


def unpack(data: bytes, load: Callable[[str, bytes], Any]) -> Ensemble:
    """Read what `pack` wrote.

    Parameters
    ----------
    data : bytes
    load : callable
        Reads a member from its file's name and content; refuses what is no head.

    Returns
    -------
    Ensemble

    Raises
    ------
    ValueError, KeyError, TypeError, zipfile.BadZipFile
        If it is not what `pack` writes. Nothing but a table of names and numbers is read before
        `load` is given each member.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        # What would swell when unpacked is no ensemble.
        if sum(entry.file_size for entry in archive.infolist()) > len(data):
            raise ValueError("it holds compressed data, which no ensemble does")
        about = json.loads(archive.read(_ABOUT))
        if not isinstance(about, list) or not about:
            raise ValueError("it names no members")
        members, scales, columns = {}, {}, {}
        for number, entry in enumerate(about):
            name, scale = str(entry["name"]), Scale(float(entry["centre"]), float(entry["width"]))
            if name in members or not (math.isfinite(scale.centre) and 0 < scale.width < math.inf):
                raise ValueError("its members or their scales make no sense")
            members[name] = load(entry["file"], archive.read(f"{number}/{entry['file']}"))
            scales[name] = scale
            if "columns" in entry:
                columns[name] = _part(*entry["columns"])
    if columns and len(columns) < len(members):
        raise ValueError("some of its members are given a part of embeddings, others all")
    return Ensemble(members, scales, columns)


def _part(start: Any, stop: Any) -> slice:
    if type(start) is not int or type(stop) is not int or not 0 <= start < stop:
        raise ValueError(f"a member is given the columns {start} to {stop}")
    return slice(start, stop)
