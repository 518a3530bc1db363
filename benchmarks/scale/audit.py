"""How well and how fast the audit finds copies: the figures of docs/audit.md.

    LESION_TEST_DATA=... python benchmarks/scale/audit.py copies [--features FILE] [--per-kind 50]
    python benchmarks/scale/audit.py scale [--images 100000]

`copies` alters real images, one copy of each at most, extracts the embeddings of all and audits
them. With --features, embeddings of the unaltered images are taken from there.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from copies import ALTERATIONS
from PIL import Image

from features.audit.findings import Audit, audit
from features.audit.similarity import find_links, neighbours
from features.cache.contents import read_features
from features.datasets.folders import find_images
from features.embedding.extractor import load_extractor
from features.extraction import extract

# Pairs of the official training and validation images that a person found to show one lesion.
SAME_LESION = {
    frozenset((f"ISIC_{one:07d}", f"ISIC_{other:07d}"))
    for one, other in (
        (12127, 12970), (12290, 13594), (12756, 13184), (12672, 12673), (171, 15124),
        (164, 14795), (224, 14791), (204, 14748), (215, 15313), (223, 14818), (177, 14657),
        (206, 14739), (165, 14788), (205, 14742), (229, 14771), (222, 14846), (157, 14946),
        (225, 14778), (421, 9911), (436, 10573), (198, 14667), (416, 11292), (439, 10853),
        (1131, 11126), (444, 11166), (397, 10074), (240, 9998), (453, 11097), (1128, 10358),
        (427, 11333), (420, 9910),
    )
}  # fmt: skip


@click.group()
def main() -> None:
    """Measure the audit."""


@main.command()
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--per-kind", type=int, default=50, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep all in this empty folder.")
def copies(features: Path | None, per_kind: int, folder: Path | None) -> None:
    """Recall and precision on altered copies of real images."""
    data = Path(os.environ["LESION_TEST_DATA"])
    with tempfile.TemporaryDirectory() as aside:
        place = folder or Path(aside)
        images = place / "images"
        _lay_out(data / "data" / "isic2017_256", images, per_kind)
        cache = place / "features.h5"
        if features and not cache.exists():
            shutil.copy(features, cache)
        weights = next((data / "weights").glob("inception_v3*.h5"))
        extract(find_images(images), load_extractor("inception_v3", weights), cache)
        known = read_features(cache)
        for title, where in (("pictures", None), ("embeddings alone", place / "nowhere")):
            if where:
                where.mkdir(exist_ok=True)
            began = time.perf_counter()
            found = audit(known, where)
            click.echo(f"\n{title}: {time.perf_counter() - began:.0f} s, {found.images} images")
            _report(found)


def _lay_out(source: Path, images: Path, per_kind: int) -> None:
    files = sorted(path.relative_to(source) for path in source.rglob("*.jpg"))
    for file in files:
        (images / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, images / file)
    (images / "train" / "copies").mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    chosen = iter(rng.permutation(len(files)).tolist())
    for number, alter in enumerate(ALTERATIONS.values()):
        for _ in range(per_kind):
            file = files[next(chosen)]
            altered, quality = alter(Image.open(source / file).convert("RGB"), rng)
            name = f"{file.stem}__{number:02d}.jpg"
            altered.save(images / "train" / "copies" / name, quality=quality)


def _report(found: Audit) -> None:
    group_of = {
        Path(member.path).stem: group.name for group in found.groups for member in group.members
    }
    copied = sorted(_copies_below(found))
    right = 0
    for number, kind in enumerate(ALTERATIONS):
        of_kind = [stem for stem in copied if stem.endswith(f"__{number:02d}")]
        met = sum(
            stem in group_of and group_of[stem] == group_of.get(stem.split("__")[0])
            for stem in of_kind
        )
        right += met
        low, high = _wilson(met, len(of_kind))
        click.echo(f"| {kind} | {met} of {len(of_kind)} | {low:.0%} to {high:.0%} |")
    low, high = _wilson(right, len(copied))
    click.echo(f"| all | {right} of {len(copied)} | {low:.0%} to {high:.0%} |")
    good = 0
    for group in found.groups:
        origins = sorted({Path(member.path).stem.split("__")[0] for member in group.members})
        unknown = [
            (one, other)
            for place, one in enumerate(origins)
            for other in origins[place + 1 :]
            if frozenset((one, other)) not in SAME_LESION
        ]
        good += not unknown
        if unknown:
            click.echo(f"not known to show one lesion: {unknown} ({group.similarity})")
    low, high = _wilson(good, len(found.groups))
    click.echo(f"groups of one lesion: {good} of {len(found.groups)} ({low:.1%} to {high:.1%})")
    met = sum(
        all(stem in group_of for stem in pair) and len({group_of[stem] for stem in pair}) == 1
        for pair in SAME_LESION
    )
    click.echo(f"known repeats found: {met} of {len(SAME_LESION)}")


def _copies_below(found: Audit) -> list[str]:
    place = Path(found.folder)
    place = place if (place / "train").is_dir() else place.parent / "images"
    return [path.stem for path in (place / "train" / "copies").iterdir()]


def _wilson(hits: int, n: int) -> tuple[float, float]:
    z, share = 1.96, hits / n
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / 2 / n) ** 2)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@main.command()
@click.option("--images", type=int, default=100_000, show_default=True)
def scale(images: int) -> None:
    """Time and memory for many embeddings without pictures."""
    rng = np.random.default_rng(0)
    embeddings = rng.random((images, 2048), np.float32)
    planted = np.sort(rng.choice(images // 2, images // 100, replace=False))
    copy = planted + images // 2
    embeddings[copy] = embeddings[planted] + 0.05 * rng.standard_normal(
        (len(planted), 2048), np.float32
    )
    began = time.perf_counter()
    near = neighbours(embeddings)
    middle = time.perf_counter()
    links = find_links(embeddings, near, None)
    met = {(link.first, link.second) for link in links}
    right = sum(pair in met for pair in zip(planted.tolist(), copy.tolist(), strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    click.echo(
        f"{images} embeddings of 2048: neighbours {middle - began:.0f} s, links "
        f"{time.perf_counter() - middle:.0f} s, peak memory {peak:.1f} GB "
        f"(embeddings {embeddings.nbytes / 2**30:.1f}); {right} of {len(planted)} planted copies "
        f"found, {len(links) - right} others"
    )


if __name__ == "__main__":
    sys.exit(main())
