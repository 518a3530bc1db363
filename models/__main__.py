"""``python -m models``: use a bundle from the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from features.datasets.splits import SPLITS
from features.errors import DatasetError, LesionError
from features.presenting import NOT_A_DIAGNOSIS, json_text, print_anything
from features.storage.addresses import is_remote
from features.storage.fetching import file_sha256, named
from features.storage.options import FEATURES, FILE, PLACE
from models.inference.text import as_csv, as_json, as_text

if TYPE_CHECKING:
    from models.inference.classifier import Classifier
    from models.inference.verdict import Rejected, Verdict

# Between two lines of results, so that a long list shows that it goes on.
_AT_ONCE = 16


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Use a bundle that fit_classifier.py made."""
    print_anything()


@main.command()
@click.argument("bundle", type=PLACE)
@click.argument("images", type=PLACE, nargs=-1, required=True)
@click.option("--csv", "layout", flag_value="csv", help="One line of CSV per image.")
@click.option("--json", "layout", flag_value="json", help="JSON as the service's API gives it.")
@click.option(
    "--weights", type=FILE, metavar="PATH",
    help="A weights file to use instead of the bundle's copy of it.",
)  # fmt: skip
@click.option("--age", metavar="YEARS", help="Of the patient, whom all IMAGES are of.")
@click.option("--sex", metavar="WORD", help="Of the patient: female or male.")
@click.option("--site", metavar="WORD", help="Where on the body, in the words of the training.")
def classify(
    bundle: Path,
    images: tuple[Path, ...],
    layout: str | None,
    weights: Path | None,
    age: str | None,
    sex: str | None,
    site: str | None,
) -> None:
    """Judge IMAGES (files, folders or archives of them) with BUNDLE.

    An image that can't be read is reported and doesn't stop the others; the exit status is then 1.
    """
    patient = {"age": age, "sex": sex, "site": site}
    try:
        paths = list(_image_files(images))
        from models.bundle.fetching import fetch_bundle
        from models.inference.classifier import Classifier

        classifier = Classifier.load(fetch_bundle(bundle), weights)
        _, unused = classifier.read_patient(patient)
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")
    for warning in (*classifier.warnings, *unused):
        click.echo(f"warning: {warning.text}", err=True)
    results = _results(classifier, paths, patient)
    classes = classifier.bundle.classes
    if layout == "csv":
        failed = as_csv(results, classes.labels if classes.several else ())
    else:
        failed = {"json": as_json, None: as_text}[layout](results)
    if layout:
        click.echo(NOT_A_DIAGNOSIS, err=True)
    if failed:
        sys.exit(f"error: {failed} of {len(paths)} images could not be read")


@main.command()
@click.argument("bundle", type=PLACE)
def show(bundle: Path) -> None:
    """Verify BUNDLE and say what it is."""
    from models.bundle.fetching import fetch_bundle
    from models.bundle.loading import load_bundle
    from models.bundle.manifest import MANIFEST
    from models.report.terminal import bundle_text

    try:
        folder = fetch_bundle(bundle)
        click.echo(bundle_text(load_bundle(folder)))
        digest = file_sha256(folder / MANIFEST)
        click.echo(f"\nbehind its address, #sha256={digest} takes no other bundle")
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")


@main.command()
@click.argument("bundle", type=PLACE)
@click.argument("features", type=FEATURES, nargs=-1, required=True)
@click.option(
    "--split", type=click.Choice([*SPLITS, "all"]), default="test",
    show_default=True, help="Which images of FEATURES to evaluate on.",
)  # fmt: skip
@click.option(
    "--against", type=FILE, metavar="CSV",
    help="Somebody else's scores by image name, to be compared by paired tests.",
)  # fmt: skip
@click.option("--score-column", metavar="NAME", help="Its column of scores; detected by default.")
@click.option(
    "--positive", "positives", multiple=True, metavar="CLASS",
    help="A class of FEATURES that is the bundle's positive one by another name. Repeatable.",
)  # fmt: skip
@click.option(
    "--scores", type=click.Path(path_type=Path), metavar="CSV",
    help="Write label, score, probability and decision of every image.",
)  # fmt: skip
@click.option(
    "--metadata", type=FILE, multiple=True, metavar="CSV",
    help="Age, sex and site by image, for a bundle that takes them. Repeatable.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="All figures as JSON.")
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True,
    help="Of the bootstrapped intervals.",
)  # fmt: skip
def evaluate(
    bundle: Path,
    features: tuple[Path, ...],
    split: str,
    against: Path | None,
    score_column: str | None,
    positives: tuple[str, ...],
    scores: Path | None,
    metadata: tuple[Path, ...],
    as_json: bool,
    seed: int,
) -> None:
    """Judge BUNDLE by the labelled images of the feature file FEATURES.

    A bundle of several networks takes as many feature files of the same images, in any order.
    """
    try:
        from features.cache.contents import read_features
        from features.cache.writer import require_place
        from models.bundle.fetching import fetch_bundle
        from models.bundle.loading import load_bundle
        from models.inference.assessment import against as compared
        from models.inference.assessment import evaluate_bundle, match_features, write_scores
        from models.patients.tables import read_metadata
        from models.report.terminal import as_text, as_values
        from models.training.representations.matching import name_files

        if scores:
            require_place(scores)
        loaded = load_bundle(fetch_bundle(bundle))
        read = {name: read_features(path) for name, path in name_files(features).items()}
        cached, unmatched = match_features(loaded, read)
        known = (
            read_metadata(metadata, cached.items.path.tolist(), cached.items.split.tolist())
            if metadata
            else None
        )
        assessment = evaluate_bundle(
            loaded, cached, split, metadata=known, seed=seed, positives=positives
        )
        assessment = replace(assessment, notes=(*unmatched, *assessment.notes))
        loaded = loaded.fused() if metadata else loaded
        rival = (
            compared(assessment, loaded.head_title, against, seed=seed, column=score_column)
            if against
            else None
        )
        if scores:
            write_scores(scores, loaded, assessment)
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")
    marks = tuple(dict.fromkeys((*loaded.marks, *cached.marks)))
    if as_json:
        values = as_values(loaded, assessment, rival, marks)
        click.echo(json_text(values, indent=1))
        click.echo(NOT_A_DIAGNOSIS, err=True)
    else:
        click.echo(as_text(loaded, assessment, rival, marks))


def _image_files(given: Sequence[Path]) -> Iterator[Path]:
    from features.datasets.reading.walking import image_files

    for path in given:
        if not (path.exists() or is_remote(path)):
            yield path
            continue
        try:
            found = image_files(path)
        except DatasetError as error:
            if len(given) == 1:
                raise
            # Told beside the others, which it doesn't stop.
            click.echo(f"warning: {error}", err=True)
            found = [path]
        if not found:
            raise LesionError(f"there are no images in the folder {path}")
        yield from found


def _results(
    classifier: Classifier, paths: Sequence[Path], patient: dict[str, str | None]
) -> Iterator[Verdict | Rejected]:
    for start in range(0, len(paths), _AT_ONCE):
        part = paths[start : start + _AT_ONCE]
        yield from classifier.classify(
            [(str(path), path) for path in part], metadata=[patient] * len(part)
        )


if __name__ == "__main__":
    main(prog_name="python -m models")
