"""Neighbours among very many embeddings: time, bytes, and the share of the true ones that is found.

    python -m benchmarks.scale.neighbours --images 100000 --search usearch --features features.h5

The embeddings are made up: rows of a feature file, or drawn ones, moved towards another and
blurred; one in a hundred is a near copy of another. So the figures say what a search costs and how
many neighbours it misses, and nothing of lesions. Seconds are of the processor, all threads
together. With --keep, an index that takes longer than
--seconds is left there, and the next call goes on with it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.machine import describe
from features.audit.approximate import _empty, _exactly
from features.audit.similarity import _projected, _unit, nearest
from features.cache.contents import read_features

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
NEAREST, BLOCK = 10, 16_384
SEARCHES = ("exact", "usearch", "faiss-hnsw", "faiss-ivf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--features", type=Path, help="a feature file whose rows are perturbed")
    parser.add_argument("--search", choices=SEARCHES, default="usearch")
    parser.add_argument("--asked", type=int, default=2_000, help="points that are asked for")
    parser.add_argument("--keep", type=Path, help="folder for the index of usearch")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    began = time.perf_counter()
    points, copy_of = remembered(given)
    print(f"{describe()}; made in {time.perf_counter() - began:.0f} s", flush=True)
    rng = np.random.default_rng(1)
    copies = rng.permutation([*copy_of])[: given.asked // 2]
    others = rng.choice(len(points), given.asked - len(copies), replace=False)
    asked = np.concatenate([copies, others])
    if given.search == "exact":
        some = points[: min(len(points), 20_000)]
        began = time.process_time()
        nearest(some, k=NEAREST)
        whole = (time.process_time() - began) * (len(points) / len(some)) ** 2
        print(f"exact: {whole:,.0f} processor s for all, from {len(some):,} among themselves")
        return
    true = None
    for name, built, size, search in SEARCH[given.search](points, given):
        if true is None:
            true = without(asked, _exactly(points, points[asked], NEAREST + 1))
        began = time.process_time()
        found = without(asked, search(points[asked]))
        each = (time.process_time() - began) / len(asked)
        shared = [len({*a} & {*b}) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
        random = np.array(shared[len(copies) :])
        met = sum(
            copy_of[at] in row
            for at, row in zip(copies.tolist(), found[: len(copies)].tolist(), strict=True)
        )
        print(
            f"| {len(points):,} x {given.columns:,} | {name} | {built:,.0f} | {1e3 * each:.2f} | "
            f"{each * len(points):,.0f} | {size / 1e6:,.0f} | "
            f"{random.mean() / NEAREST:.1%} | {met} of {len(copies)} |",
            flush=True,
        )


def remembered(given: argparse.Namespace) -> tuple[Floats, dict[int, int]]:
    """Make the points, or read what the call before has made."""
    kept = given.keep / f"{given.images}x{given.columns}.npz" if given.keep else None
    if kept and kept.exists():
        with np.load(kept) as file:
            return file["points"], dict(file["copies"].tolist())
    points, copy_of = made_up(given.images, given.columns, given.features)
    points = _unit(_projected(points)) if points.shape[1] > 256 else points
    if kept:
        np.savez(kept, points=points, copies=[*copy_of.items()])
    return points, copy_of


def made_up(n: int, columns: int, features: Path | None) -> tuple[Floats, dict[int, int]]:
    """Give n points of unit length, and of which other one each near copy is."""
    rng = np.random.default_rng(0)
    if features:
        known = read_features(features)
        base = known.rows(known.items).whole()
        base = _projected(base) if columns == 256 else base
    else:
        causes = rng.standard_normal((5_000, 64), np.float32)
        base = causes @ rng.standard_normal((64, columns), np.float32)
    blur = 0.4 * base.std(axis=0)
    points = np.empty((n, base.shape[1]), np.float32)
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        one, other = base[rng.integers(len(base), size=(2, size))]
        one = one + rng.beta(1, 3, (size, 1)).astype(np.float32) * (other - one)
        points[start : start + size] = one + blur * rng.standard_normal(one.shape, np.float32)
    source = rng.choice(n // 2, n // 100, replace=False)
    copy = n // 2 + rng.choice(n // 2, n // 100, replace=False)
    points[copy] = points[source]
    points[copy] += blur / 8 * rng.standard_normal((len(copy), len(blur)), np.float32)
    for start in range(0, n, BLOCK):
        points[start : start + BLOCK] = _unit(points[start : start + BLOCK])
    return points, dict(zip(copy.tolist(), source.tolist(), strict=True))


def without(asked: Numbers, found: Numbers) -> Numbers:
    """Take a point's own number out of what was found for it, or the last if it is not there."""
    others = found != asked[:, np.newaxis]
    others[others.all(axis=1), -1] = False
    return found[others].reshape(len(asked), -1)


Search = Callable[[Floats], Numbers]
Tried = Iterator[tuple[str, float, int, Search]]


def usearch(points: Floats, given: Any) -> Tried:
    index, spent = _empty(points.shape[1]), 0.0
    file = given.keep / f"{len(points)}.usearch" if given.keep else None
    clock = given.keep / f"{len(points)}.seconds" if given.keep else None
    if file and file.exists():
        index.load(file)
        spent = float(clock.read_text())
    began, end = time.process_time(), time.perf_counter() + given.seconds
    while len(index) < len(points) and time.perf_counter() < end:
        block = points[len(index) : len(index) + BLOCK]
        index.add(np.arange(len(index), len(index) + len(block), dtype=np.uint64), block)
    spent += time.process_time() - began
    if file:
        index.save(file)
        clock.write_text(str(spent))
    if len(index) < len(points):
        print(f"{len(index):,} of {len(points):,} are indexed after {spent:.0f} s: call again")
        return
    size = len(index.save())
    for width in (64, 128):
        index.expansion_search = width
        yield (
            f"usearch {width}",
            spent,
            size,
            lambda block: np.asarray(index.search(block, NEAREST + 1).keys).astype(np.int64),
        )


def faiss_hnsw(points: Floats, given: Any) -> Tried:
    import faiss

    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexHNSWSQ(points.shape[1], half, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 128
    began = time.process_time()
    index.train(points[:BLOCK])
    index.add(points)
    built = time.process_time() - began
    size = faiss.serialize_index(index).nbytes
    for width in (64, 128):
        index.hnsw.efSearch = width
        yield (
            f"faiss HNSW {width}", built, size, lambda block: index.search(block, NEAREST + 1)[1],
        )  # fmt: skip


def faiss_ivf(points: Floats, given: Any) -> Tried:
    import faiss

    d, lists = points.shape[1], int(4 * len(points) ** 0.5)
    coarse = faiss.IndexFlatIP(d)
    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(coarse, d, lists, half, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = 8
    began = time.process_time()
    index.train(points[:: max(1, len(points) // (64 * lists))])
    index.add(points)
    built = time.process_time() - began
    size = faiss.serialize_index(index).nbytes
    for probes in (32, 64):
        index.nprobe = probes
        yield (
            f"faiss IVF {probes}", built, size, lambda block: index.search(block, NEAREST + 1)[1],
        )  # fmt: skip


SEARCH: dict[str, Callable[[Floats, Any], Tried]] = {
    "usearch": usearch,
    "faiss-hnsw": faiss_hnsw,
    "faiss-ivf": faiss_ivf,
}

if __name__ == "__main__":
    main()
