"""The marks of finished shards: a small JSON file beside each, and nothing else makes it done.

`docs/cache-format.md` lists the fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from features.cache.shards.places import file_name, mark_name
from features.embedding.specification import ExtractorSpec
from features.errors import CacheError, CacheMismatch

__all__ = [
    "MARK_FORMAT",
    "Mark",
    "fits",
    "read_if_sound",
    "read_mark",
    "require_alike",
]

MARK_FORMAT: Final = "lesion-features-shard"
_VERSION: Final = 1
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_PIECE: Final = 1 << 22


@dataclass(frozen=True)
class Mark:
    """What a finished shard says of itself.

    Parameters
    ----------
    number, of : int
        Which shard of how many, from 1 on.
    key : str
        Of what went in: fingerprint, names, labels and states of the image files.
    sha256 : str
        Of the feature file, every byte of it.
    bytes : int
        Its length.
    extractor : dict
        `ExtractorSpec.as_dict` of what made the embeddings.
    dtype : {"float32", "float16"}
    rows, items, gone, failures : int
        Embeddings; image files; embeddings whose files are gone; images that could not be read.
    images_sha256 : str
        Of the hashes of all images, sorted, one a line.
    images, weights_path, trained_on, synthetic, reader, created, software
        As in the feature file.
    """

    number: int
    of: int
    key: str
    sha256: str
    bytes: int
    extractor: dict[str, Any]
    dtype: str
    rows: int
    items: int
    gone: int
    failures: int
    images_sha256: str
    images: str = ""
    weights_path: str = ""
    trained_on: str = ""
    synthetic: bool = False
    reader: int = 1
    created: str = ""
    software: dict[str, str] = field(default_factory=dict)

    @property
    def spec(self) -> ExtractorSpec:
        """What made the embeddings."""
        return ExtractorSpec.from_dict(self.extractor)

    def as_text(self) -> str:
        """Write it as JSON; names that are no UTF-8 are escaped."""
        about = {"format": MARK_FORMAT, "version": _VERSION, "fingerprint": self.spec.fingerprint}
        return json.dumps({**about, **asdict(self)}, indent=1) + "\n"


def read_mark(path: Path) -> Mark:
    """Read a mark.

    Raises
    ------
    CacheError
        If it can't be read, is damaged, or of a newer version.
    FileNotFoundError
        If there is none.
    """
    try:
        values = json.loads(path.read_bytes())
        return _parsed(values)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(f"{path} can't be read ({error.strerror}): fix that") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CacheError(
            f"{path} is not the mark of a shard ({error}): delete it and make the shard again, "
            "which embeds nothing twice"
        ) from error


def read_if_sound(folder: Path, number: int, of: int) -> Mark | None:
    """Read a shard's mark; a damaged one counts for nothing, as one that is not there."""
    try:
        return read_mark(folder / mark_name(number, of))
    except (FileNotFoundError, CacheError):
        return None


def _parsed(values: Any) -> Mark:
    if not isinstance(values, dict) or values.get("format") != MARK_FORMAT:
        raise ValueError(f"its format is not {MARK_FORMAT}")
    if values.get("version") != _VERSION:
        raise ValueError(f"its version is {values.get('version')}, this program's is {_VERSION}")
    kinds = get_type_hints(Mark)
    given = {each.name: values[each.name] for each in fields(Mark)}
    for name, value in given.items():
        kind = kinds[name]
        if type(value) is not getattr(kind, "__origin__", kind):
            raise ValueError(f"its {name} is {value!r}")
    mark = Mark(**given)
    if not 1 <= mark.number <= mark.of or min(mark.rows, mark.items, mark.failures, mark.gone) < 0:
        raise ValueError("its numbers can't be")
    if not all(_HEX.fullmatch(text) for text in (mark.key, mark.sha256, mark.images_sha256)):
        raise ValueError("its hashes are none")
    if mark.spec.fingerprint != values.get("fingerprint"):
        raise ValueError("its fingerprint is not that of the extractor it describes")
    return mark


def fits(path: Path, mark: Mark) -> bool:
    """Tell whether a feature file is, byte for byte, the one that a mark is of."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != mark.bytes:
            return False
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except FileNotFoundError:
        return False
    return digest.hexdigest() == mark.sha256


def require_alike(folder: Path, marks: Iterable[Mark]) -> None:
    """Refuse shards that were not made for one another.

    Raises
    ------
    CacheMismatch
        If they differ in their number, in what made the embeddings or in how these are stored;
        two of them are named.
    """
    several = list(marks)
    for other in several[1:]:
        _require_two_alike(folder, several[0], other)


def _require_two_alike(folder: Path, first: Mark, other: Mark) -> None:
    one, two = (folder / file_name(mark.number, mark.of) for mark in (first, other))
    if first.of != other.of:
        raise CacheMismatch(
            f"{one} is one of {first.of} shards and {two.name} one of {other.of}: keep those of "
            "one number in a folder, and the others in another"
        )
    if first.extractor != other.extractor:
        first.spec.require(other.spec, mine=str(one), others=two.name)
    if first.dtype != other.dtype:
        raise CacheMismatch(
            f"{one} holds {first.dtype} and {two.name} {other.dtype}: make one of them again, "
            "with the --dtype of the other"
        )
