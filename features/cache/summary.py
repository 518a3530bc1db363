"""What a person wants to know of a feature file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from features.cache.contents import read_without_embeddings
from features.cache.safe_files import open_features
from features.datasets.plan import lines
from features.presenting import MARKS, shown

__all__ = ["as_text", "summarise"]


def summarise(path: str | Path) -> dict[str, Any]:
    """Describe a feature file without reading its embeddings.

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
    with open_features(file) as opened:
        features = read_without_embeddings(opened)
        rows, dim = opened["embeddings"].shape
        dtype = opened["embeddings"].dtype.name
        version = int(opened.attrs["version"])
    items = features.items
    there = items.take(items.path != "")
    counts: dict[str, Counter[str]] = {}
    for split, label in zip(there.split.tolist(), there.label.tolist(), strict=True):
        counts.setdefault(split, Counter())[label] += 1
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "version": version,
        "checksums": version > 1,
        "fingerprint": features.fingerprint,
        "extractor": features.spec.as_dict(),
        "weights_path": features.weights_path,
        "trained_on": features.trained_on,
        "images_folder": features.images,
        "created": features.created,
        "software": features.software,
        "marks": list(features.marks),
        "embeddings": {"rows": int(rows), "dim": int(dim), "dtype": dtype},
        "images": len(there),
        "counts": {split: dict(sorted(count.items())) for split, count in sorted(counts.items())},
        "duplicates": len(there) - len(np.unique(there.row)),
        "groups": len(set(there.group.tolist()) - {""}),
        "gone": len(items) - len(there),
        "pixels": _extent(there.width, there.height),
        "failures": dict(Counter(failure.code for failure in features.failures)),
        "plan": features.plan,
        "unfinished": file.with_name(f"{file.name}.blocks").exists(),
    }


def _extent(width: Any, height: Any) -> dict[str, list[int]]:
    if not len(width):
        return {}
    order = np.argsort(width.astype(np.int64) * height, kind="stable")
    places = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
    return {name: [int(width[at]), int(height[at])] for name, at in places.items()}


def as_text(summary: dict[str, Any]) -> str:
    """Say it in lines."""
    return "\n".join(shown(f"{name:<12} {value}".rstrip()) for name, value in _lines(summary))


def _lines(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    spec, stored = summary["extractor"], summary["embeddings"]
    megabytes = summary["bytes"] / 1e6
    held = "with checksums" if summary["checksums"] else "without checksums"
    yield "file", f"{summary['file']} ({megabytes:,.1f} MB, version {summary['version']}, {held})"
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
    yield "duplicates", f"{summary['duplicates']:,} files with the same bytes as another"
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
