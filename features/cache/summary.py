"""What a person wants to know of a feature file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.cache.contents import described
from features.cache.items import Items
from features.cache.safe_files import CACHE_VERSION
from features.cache.shards.folder import OpenShards
from features.datasets.plan import lines
from features.numbers import count as number_of
from features.presenting import MARKS, shown

__all__ = ["as_text", "summarise"]

_SHOWN: Final = 5


def summarise(path: str | Path) -> dict[str, Any]:
    """Describe a feature file or a folder of shards without reading embeddings.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        JSON-ready.

    Raises
    ------
    CacheError
        If the file is missing, damaged or of another format.
    """
    file = Path(path)
    with described(file, partly=True) as (features, stored):
        if isinstance(stored, OpenShards):
            shards, version = stored.table.shards, CACHE_VERSION
        else:
            shards, version = None, int(stored.file.attrs["version"])
        seen = _Seen()
        for piece in features.items.pieces():
            seen.add(piece)
        failures = dict(Counter(failure.code for failure in features.failures))
        rows, dim = stored.shape
        dtype = stored.dtype.name
    missing = shards.missing if shards else []
    return {
        "file": str(file),
        "bytes": sum(each.stat().st_size for each in (shards.files if shards else [file])),
        "version": version,
        "checksums": version > 1,
        **({"shards": {"of": shards.marks[0].of, "missing": missing}} if shards else {}),
        "fingerprint": features.fingerprint,
        "extractor": features.spec.as_dict(),
        "weights_path": features.weights_path,
        "trained_on": features.trained_on,
        "images_folder": features.images,
        "created": features.created,
        "software": features.software,
        "marks": list(features.marks),
        "embeddings": {"rows": int(rows), "dim": int(dim), "dtype": dtype},
        "images": seen.images,
        "counts": {
            split: dict(sorted(count.items())) for split, count in sorted(seen.counts.items())
        },
        "duplicates": seen.images - seen.distinct(),
        "groups": len(seen.groups),
        "gone": len(features.items) - seen.images,
        "pixels": seen.extent(),
        "failures": failures,
        "plan": features.plan,
        "unfinished": bool(missing) or file.with_name(f"{file.name}.blocks").exists(),
    }


class _Seen:
    """What is counted of items, piece by piece."""

    def __init__(self) -> None:
        self.images = 0
        self.counts: dict[str, Counter[str]] = {}
        self.groups: set[str] = set()
        self._rows: list[npt.NDArray[np.int64]] = []
        self._sizes: list[npt.NDArray[np.int32]] = []

    def add(self, items: Items) -> None:
        """Count the files of a piece that are there."""
        there = items.there()
        self.images += len(there)
        for split, label in zip(there.split.tolist(), there.label.tolist(), strict=True):
            self.counts.setdefault(split, Counter())[label] += 1
        self.groups |= set(there.group.tolist()) - {""}
        self._rows.append(there.row)
        self._sizes.append(np.stack([there.width, there.height], axis=1))

    def distinct(self) -> int:
        """Tell how many images differ."""
        return len(np.unique(np.concatenate(self._rows)))

    def extent(self) -> dict[str, list[int]]:
        """Give the smallest, the median and the largest size in pixels."""
        sizes = np.concatenate(self._sizes)
        if not len(sizes):
            return {}
        order = np.argsort(sizes[:, 0].astype(np.int64) * sizes[:, 1], kind="stable")
        places = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
        return {name: sizes[at].tolist() for name, at in places.items()}


def as_text(summary: dict[str, Any]) -> str:
    """Say it in lines."""
    return "\n".join(shown(f"{name:<12} {value}".rstrip()) for name, value in _lines(summary))


def _lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    spec, stored = summary["extractor"], summary["embeddings"]
    megabytes = summary["bytes"] / 1e6
    held = "with checksums" if summary["checksums"] else "without checksums"
    yield "file", f"{summary['file']} ({megabytes:,.1f} MB, version {summary['version']}, {held})"
    if shards := summary.get("shards"):
        lacking = shards["missing"]
        told = ", ".join(map(str, lacking[:_SHOWN])) + (", …" if len(lacking) > _SHOWN else "")
        there = f"{shards['of'] - len(lacking):,} of {shards['of']:,}"
        yield "shards", there + (f"; missing: {told}" if lacking else "")
    for mark in summary["marks"]:
        yield "MARKED", f"{mark.upper()}: {MARKS[mark]}"
    yield "network", f"{spec['network']}, {spec['input_size']} pixels, {spec['precision']}"
    yield "layers", f"{', '.join(spec['layers'])} ({spec['pooling']}; {', '.join(spec['views'])})"
    if spec.get("preparation"):
        yield "prepared", "; ".join(spec["preparation"])
    yield "weights", f"{spec['weights']} {spec['weights_sha256'][:12]} {summary['weights_path']}"
    if summary["trained_on"]:
        yield "trained on", summary["trained_on"]
    yield "fingerprint", summary["fingerprint"]
    yield "embeddings", f"{stored['rows']:,} of length {stored['dim']:,}, {stored['dtype']}"
    yield "images", f"{summary['images']:,} from {summary['images_folder'] or 'several folders'}"
    for split, counts in summary["counts"].items():
        told = ", ".join(f"{count:,} {label or 'unlabelled'}" for label, count in counts.items())
        yield f"  {split or 'no split'}", told
    if summary["pixels"]:
        sizes = (f"{name} {w} x {h}" for name, (w, h) in summary["pixels"].items())
        yield "pixels", ", ".join(sizes)
    yield "duplicates", f"{number_of(summary['duplicates'], 'file')} with the same bytes as another"
    if summary["groups"]:
        yield "groups", f"{summary['groups']:,}"
    for line in lines(summary["plan"]) if summary["plan"] else ():
        if not line.startswith(("train:", "valid:", "test:", "images:", "groups:")):
            yield "read", line
    if summary["gone"]:
        yield "gone", f"{summary['gone']:,} embeddings whose files are no longer there"
    failed = summary["failures"]
    reasons = ", ".join(f"{count:,} {code}" for code, count in failed.items())
    yield "failures", f"{sum(failed.values()):,}" + (f" ({reasons})" if reasons else "")
    if summary["unfinished"]:
        yield "unfinished", "a run was interrupted: rerun the same command to resume"
    yield "created", summary["created"]
    versions = (f"{name} {version}" for name, version in summary["software"].items())
    yield "software", ", ".join(versions)
