"""The embeddings that several networks made of the same images, side by side as one feature file.

One feature file is the list of length one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from features.cache.contents import Features
from features.cache.rows import Rows
from features.embedding.joined import JoinedSpec
from features.embedding.specification import ExtractorSpec

__all__ = ["JoinedFeatures", "join_features"]


@dataclass(frozen=True)
class JoinedFeatures(Features):
    """What several feature files have together.

    Parameters
    ----------
    members : dict of str to Features
        By name, in the order of their columns; all with the same items. `spec` is a `JoinedSpec`
        of theirs.
    """

    members: dict[str, Features] = field(default_factory=dict)


def join_features(files: Mapping[str, Features] | Features) -> JoinedFeatures:
    """Put feature files side by side; nothing is read or copied before it is asked for.

    Parameters
    ----------
    files : mapping of str to Features, or Features
        By name, all with the same items in the same order, as
        `models.training.representations.matching.match_images` gives them; one alone is called by
        its network.

    Returns
    -------
    JoinedFeatures
        What is known of images and files beside the embeddings is that of the first.
    """
    if isinstance(files, JoinedFeatures):
        return files
    members = {files.spec.network: files} if isinstance(files, Features) else dict(files)
    first, spec = next(iter(members.values())), JoinedSpec(tuple(f.spec for f in members.values()))
    table = _SideBySide([each.embeddings for each in members.values()])
    values = {**vars(first), "synthetic": any(each.synthetic for each in members.values())}
    # Wherever features are read, the two have the same to say.
    values |= {"spec": cast("ExtractorSpec", spec), "embeddings": Rows(table), "members": members}
    return JoinedFeatures(**values)


class _SideBySide:
    """Tables with the same rows as one, in single precision where somebody looks."""

    def __init__(self, tables: list[npt.NDArray[np.float32] | Rows]) -> None:
        self._tables = tables
        self.shape = (len(tables[0]), sum(each.shape[1] for each in tables))
        self.dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @contextlib.contextmanager
    def opened(self) -> Iterator[_SideBySide]:
        """Each of them is opened when it is looked at."""
        yield self

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        parts = [np.asarray(each[key], np.float32) for each in self._tables]
        return parts[0] if len(parts) == 1 else np.hstack(parts)
