"""Tune, compare and calibrate heads on cached embeddings: features.h5 -> bundle and report."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click

from features.storage.fetching import named
from features.storage.options import FEATURES, FILE, PLACE, TEXT


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("features", type=FEATURES, nargs=-1, required=True)
@click.option(
    "--out", "-o", type=PLACE, default=Path("bundle"), show_default=True,
    help="Folder for the bundle and the report, or its address.",
)  # fmt: skip
@click.option(
    "--positive", "positives", multiple=True, default=["melanoma"], show_default=True,
    metavar="CLASS",
    help="The class to be found; all others together are the rest. Repeatable: further ones are "
    "taken for the first.",
)  # fmt: skip
@click.option(
    "--merge", "merges", multiple=True, metavar="NEW=CLASS,CLASS|CSV",
    help="Take several classes for one; or a table with a class and what it is taken for on each "
    "line, nothing to leave it out. Repeatable.",
)  # fmt: skip
@click.option(
    "--exclude", "excluded", multiple=True, metavar="CLASS",
    help="Leave out the images of this class. Repeatable.",
)  # fmt: skip
@click.option(
    "--heads", multiple=True, metavar="NAME[,NAME]",
    help="Heads to compare: logistic_regression, svm, xgboost, ensemble (the average of the first "
    "two), or dotted paths of scikit-learn classifiers, such as my_module.MyEstimator.  "
    "[default: the four]",
)  # fmt: skip
@click.option(
    "--head", metavar="NAME",
    help="The head for the bundle, instead of the one with the best cross-validated ROC AUC.",
)  # fmt: skip
@click.option(
    "--representation", metavar="NAME",
    help="Of several FEATURES the one for the bundle, by its name without ending, or with "
    "--combine 'all side by side' or 'all averaged', instead of that with the best cross-validated "
    "ROC AUC.",
)  # fmt: skip
@click.option(
    "--combine",
    is_flag=True,
    help="Judge several FEATURES together, too: side by side, and by the average of their scores.",
)
@click.option(
    "--settings", type=TEXT, metavar="NAME=NUMBER,...|BUNDLE",
    help="Search nothing: take these settings of the one head in --heads, or those of a bundle.",
)  # fmt: skip
@click.option(
    "--no-reuse", is_flag=True,
    help="Recompute everything, even what earlier runs found for the same embeddings.",
)  # fmt: skip
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Of the cross-validation.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**32 - 1), default=0, show_default=True,
    help="The same seed gives the same heads.",
)  # fmt: skip
@click.option(
    "--jobs", type=int, default=-1, show_default=True, help="Threads; -1 is one per core."
)
@click.option(
    "--weights", type=FILE, multiple=True, metavar="PATH",
    help="The network's weights file, if it no longer lies where it was at extraction. Repeatable "
    "with several FEATURES.",
)  # fmt: skip
@click.option(
    "--calibration", type=click.Choice(["auto", "platt", "isotonic", "beta"]), default="auto",
    show_default=True, help="From scores to probabilities; auto: lowest cross-validated log loss.",
)  # fmt: skip
@click.option(
    "--threshold", default="sensitivity:0.95@0.9", show_default=True, metavar="RULE",
    help="sensitivity:TARGET@CONFIDENCE, youden, cost:MISS/ALARM, or a probability.",
)  # fmt: skip
@click.option(
    "--alpha", type=float, default=0.1, show_default=True,
    help="Share of each class that may lie on the wrong side of the zone of uncertainty.",
)  # fmt: skip
@click.option(
    "--metadata", type=FILE, multiple=True, metavar="CSV",
    help="Age, sex and site by image: adds a baseline without images, and subgroups. Repeatable.",
)  # fmt: skip
@click.option(
    "--groups", type=TEXT, default="auto", show_default=True, metavar="auto|none|CSV",
    help="Images that belong together, as the audit writes them; auto: its table beside FEATURES.",
)  # fmt: skip
@click.option(
    "--on-leak", type=click.Choice(["drop", "group", "ignore"]), default="drop",
    show_default=True,
    help="Training images that belong together with one of another split: leave them out, or "
    "train on them, keeping groups together in the folds (group) or not (ignore).",
)  # fmt: skip
@click.option(
    "--no-thumbnails", is_flag=True,
    help="Leave small pictures of training and misjudged images out of bundle and report.",
)  # fmt: skip
@click.option(
    "--no-gallery", is_flag=True,
    help="Keep no training images in the bundle: it then knows neither similar cases nor pictures "
    "that are unlike them.",
)  # fmt: skip
@click.option(
    "--feedback", metavar="PATH|URL",
    help="Train on the images that reviewers labelled in the service, too.",
)  # fmt: skip
@click.option(
    "--memory", type=click.FloatRange(min=0, min_open=True), metavar="GIB",
    help="Memory to be used at most; where it is too little for all embeddings at once, heads are "
    "fitted block by block, and the SVM approximately.  [default: what is free]",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the bundle in the folder.")
def main(
    features: tuple[Path, ...],
    out: Path,
    positives: tuple[str, ...],
    merges: tuple[str, ...],
    excluded: tuple[str, ...],
    heads: tuple[str, ...],
    head: str | None,
    representation: str | None,
    combine: bool,
    settings: str | None,
    no_reuse: bool,
    folds: int,
    seed: int,
    jobs: int,
    weights: tuple[Path, ...],
    calibration: str,
    threshold: str,
    alpha: float,
    metadata: tuple[Path, ...],
    groups: str,
    on_leak: str,
    no_thumbnails: bool,
    no_gallery: bool,
    feedback: str | None,
    memory: float | None,
    overwrite: bool,
) -> None:
    """Compare classical heads on the feature file FEATURES and keep the best as a bundle.

    Several feature files, of the same images by different networks, are compared with each other.

    Settings, calibration and threshold are found by cross-validation on the training split; the
    validation and test splits, where there are any, are judged once at the end.
    """
    from features.cache.contents import Features, read_features
    from features.errors import LesionError
    from features.presenting import print_anything
    from models.bundle.fetching import BundlePlace
    from models.bundle.staging import require_free
    from models.decisions.thresholds import read_rule
    from models.machine import allowance
    from models.training.representations.matching import match_images, name_files, require_several

    print_anything()
    names = [name.strip() for part in heads for name in part.split(",") if name.strip()]
    try:
        # What would spoil the end is found out before the work.
        place = BundlePlace(out, overwrite=overwrite)
        require_free(place.folder, overwrite=overwrite)
        rule = read_rule(threshold)
        given = {}
        if settings is not None:
            from models.bundle.known_settings import read_settings

            settled, its_settings = read_settings(settings, names)
            names, given = [settled], {settled: its_settings}
        files = name_files(features)
        require_several(files, representation=representation, combine=combine, feedback=feedback)
        free = allowance(memory) // len(files)

        def read() -> dict[str, Features]:
            # As they are stored, many embeddings take half the memory or less.
            return {
                name: read_features(path, small=min(2**27, free // 8), held=free // 4)
                for name, path in files.items()
            }

        # What heads and reports are made with takes as long to load as such a file to verify.
        with ThreadPoolExecutor(1) as beside:
            reading = beside.submit(read)
            from models.bundle.saving import BundleOptions, find_each_weights
            from models.patients.tables import read_metadata
            from models.report.publishing import publish_bundle
            from models.report.terminal import classes_text, comparison_text, ranking_text
            from models.training.options import Options
            from models.training.relabelling import read_relabelling
            from models.training.representations.comparing import compare_representations
            from models.training.representations.groups import find_shared_groups
            from models.training.representations.joining import join_features
        cached, unmatched = match_images(reading.result())
        del reading
        reviewed: tuple[str, ...] = ()
        if feedback is not None:
            from models.inference.feedback import add_feedback
            from models.inference.feedback_store import FeedbackStore

            with FeedbackStore(feedback) as store:
                for name in cached:
                    cached[name], reviewed = add_feedback(cached[name], store.read())
        some = next(iter(cached.values()))
        relabelling = read_relabelling(some, positives, merges, excluded)
        relabelled = relabelling.apply(some)[1]
        cached = {name: relabelling.apply(each)[0] for name, each in cached.items()}
        found = find_each_weights(cached, weights, representation)
        items = some.items
        known = (
            read_metadata(metadata, items.path.tolist(), items.split.tolist()) if metadata else None
        )
        copies = find_shared_groups(groups, files, cached)
        chosen, comparison = compare_representations(
            cached,
            Options(
                positive=positives[0],
                heads=names if heads or given else None,
                head=head,
                folds=folds,
                seed=seed,
                jobs=jobs,
                rule=rule,
                calibration=calibration,
                alpha=alpha,
                on_leak=on_leak,
                memory=allowance(memory),
                settings=given,
                reuse=not no_reuse,
            ),
            representation=representation,
            combine=combine,
            metadata=known,
            groups=copies.group if copies.searched else None,
            progress=lambda message: click.echo(message, err=True),
        )
        comparison = replace(
            comparison,
            relabelling=relabelling,
            notes=(*unmatched, *relabelled, *comparison.notes),
        )
        together = cached if chosen not in cached else {chosen: cached[chosen]}
        kept = BundleOptions(
            weights=found,
            overwrite=overwrite,
            thumbnails=not no_thumbnails,
            gallery=not no_gallery,
            reuse=not no_reuse,
        )
        command = click.get_current_context().params
        publish_bundle(place.folder, comparison, join_features(together), kept, command=command)
        place.put()
    except LesionError as error:
        sys.exit(f"error: {named(str(error))}")
    except KeyboardInterrupt:
        sys.exit("stopped: nothing was written")
    for note in (*copies.notes, *reviewed):
        click.echo(note, err=True)
    if comparison.ranking is not None:
        click.echo("\n" + ranking_text(comparison.ranking))
    if comparison.classes is not None:
        click.echo("\n" + classes_text(comparison))
    click.echo(comparison_text(comparison))
    click.echo(f"\nbundle: {out}\nreport: {out / 'report.html'}")
    click.echo(f"next:   python -m service --bundle {out}")


if __name__ == "__main__":
    main()
