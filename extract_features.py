"""Embed a folder of images with a frozen network, once: images -> features.h5."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from features.networks.registry import DEFAULT_NETWORK, POOLINGS, RECIPES
from features.storage.options import FILE, PLACE, TEXT


def _listed(_context: object, _option: object, text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _roles(_context: object, _option: object, given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, role = text.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(f"got {text!r}, expected NAME=ROLE, such as holdout=test")
        found[name] = role
    return found


def _pixels(context: object, option: object, text: str | None) -> tuple[int, ...]:
    names = _listed(context, option, text)
    if any(not (name.isascii() and name.isdecimal()) or int(name) < 1 for name in names):
        raise click.BadParameter(f"got {text!r}, expected pixels such as 299 or 299,448")
    return tuple(map(int, names))


def _shard(_context: object, _option: object, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, slash, of = text.partition("/")
    told = all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (number, of))
    if not slash or not told or not 1 <= int(number) <= int(of):
        most = int(of) if told and int(of) else 16
        raise click.BadParameter(f"got {text!r}, expected one of 1/{most} to {most}/{most}")
    return int(number), int(of)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("images", type=PLACE, nargs=-1, required=True)
@click.option(
    "--out", "-o", type=PLACE, default=Path("features.h5"), show_default=True,
    help="Feature file to write; one that exists is added to.",
)  # fmt: skip
@click.option(
    "--network", type=TEXT, default=DEFAULT_NETWORK, show_default=True,
    metavar="NAME|FILE.onnx|timm:NAME|hf:NAME|PACKAGE.MODULE:FUNCTION",
    help="Frozen network: one of Keras Applications (`python -m features networks` lists them), "
    "an ONNX file, one of timm or Hugging Face, or a function that gives a Keras model.",
)  # fmt: skip
@click.option(
    "--describe", type=FILE, metavar="FILE",
    help="How a network of your own wants its pixels and what is read off it; by default the "
    "TOML file beside the ONNX file.",
)  # fmt: skip
@click.option(
    "--trained-on", metavar="TEXT",
    help="What images the network was trained on, instead of what is known of it; kept in the "
    "feature file, with a warning where yours may be among them.",
)  # fmt: skip
@click.option(
    "--weights", type=TEXT, default="imagenet", show_default=True,
    metavar="imagenet|untrained|PATH",
    help="Its weights: Keras' own ImageNet file (of timm: and hf: those published under the name), "
    "fetched once; random ones, for trials only; or a Keras weights file of the network without "
    "its top, or its address (of timm: a .safetensors or .pth file, of hf: a folder).",
)  # fmt: skip
@click.option(
    "--recipe", type=click.Choice(RECIPES), default="accurate", show_default=True,
    help="What is read off the network: fast is the average of its last layer, accurate reads "
    "several layers in several views and takes longer.",
)  # fmt: skip
@click.option(
    "--layers", metavar="NAME[,NAME]", callback=_listed,
    help="Layers of the network, instead of the recipe's.",
)  # fmt: skip
@click.option(
    "--pool", type=click.Choice(POOLINGS),
    help="How positions are summed up, instead of as the recipe says.",
)  # fmt: skip
@click.option(
    "--views", metavar="NAME[,NAME]", callback=_listed,
    help="How an image is turned, instead of as the recipe says: identity, flip-h, flip-v, "
    "rotate-90, rotate-180, rotate-270, transpose, transverse; @PIXELS after it for a size of its "
    "own, lesion: before it for a closer look at the lesion, ~bicubic at the end, ~draft "
    "after lesion:identity to read large JPEGs smaller for it.",
)  # fmt: skip
@click.option(
    "--colour", type=click.Choice(["as-is", "shades-of-grey"]),
    help="Whether the colour of the light is taken out of the images, instead of as the recipe "
    "says.",
)  # fmt: skip
@click.option(
    "--sizes", "--size", metavar="PIXELS[,PIXELS]", callback=_pixels,
    help="Sides of the network's input, instead of the recipe's; every view is taken at each.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["auto", "keras", "openvino"]), default="auto",
    show_default=True, help="What runs the network; auto is Keras on a GPU and OpenVINO on a CPU.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "tf32", "bf16", "int8"]),
    default="auto", show_default=True, help="Number format of its arithmetic; auto is bf16 on CPUs "
    "with matrix units for it, fp32 elsewhere. tf32 needs a GPU; int8 is several times as fast and "
    "slightly less exact.",
)  # fmt: skip
@click.option(
    "--labels", "tables", multiple=True, type=PLACE, metavar="CSV",
    help="Table of labels, instead of class folders; may be given several times.",
)  # fmt: skip
@click.option(
    "--table", "more_tables", multiple=True, type=PLACE, metavar="CSV",
    help="Table of groups and splits, joined by image name; may be given several times.",
)  # fmt: skip
@click.option("--id-column", metavar="NAME", help="Its column of image names; detected by default.")
@click.option(
    "--label-column", "label_columns", multiple=True, metavar="NAME",
    help="Its column of class names, or of 0 and 1; several for one-hot columns "
    "(default: all columns of 0 and 1).",
)  # fmt: skip
@click.option("--split-column", metavar="NAME", help="Its column of train, valid or test.")
@click.option(
    "--group-column", metavar="NAME",
    help="Its column of what must stay together, such as the patient or the lesion.",
)  # fmt: skip
@click.option(
    "--folder", "roles", multiple=True, metavar="NAME=ROLE", callback=_roles,
    help="What a folder's name, or a pattern such as 'batch*', says: train, valid, test, class, "
    "none, or skip to leave it out; may be given several times.",
)  # fmt: skip
@click.option(
    "--class-level", type=click.Choice(["outer", "inner"]),
    help="Which of two folders that may both be classes is it.",
)  # fmt: skip
@click.option(
    "--trust", type=click.Choice(["tables", "folders"]),
    help="Which is right where a table and a folder contradict each other.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True,
    help="Say what every file is taken for, and stop: no network is loaded, nothing is embedded.",
)  # fmt: skip
@click.option("--json", "as_json", metavar="FILE|-", help="Write that for every file, as JSON.")
@click.option("--csv", "as_csv", metavar="FILE|-", help="Write that for every file, as CSV.")
@click.option(
    "--replace", is_flag=True,
    help="Allow that images which the feature file lists lose their label or split, or are no "
    "longer listed although they are still there.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]),
    help="How embeddings are stored; float16 takes half the space.  [default: float32]",
)  # fmt: skip
@click.option(
    "--shards", type=click.IntRange(1, 99_999), metavar="N",
    help="Make a folder of N feature files, dealt by the images' names, and those alone that are "
    "missing; every command takes the folder for a feature file.",
)  # fmt: skip
@click.option(
    "--shard", callback=_shard, metavar="K/N",
    help="Make one of them, as in an array of batch jobs: 3/16 is the third of sixteen.",
)  # fmt: skip
@click.option("--prune", is_flag=True, help="Drop embeddings of images that are no longer there.")
@click.option(
    "--cluster", metavar="auto|HOST:PORT",
    help="Have it done by all machines of a Ray cluster; --out is a folder of shards that they "
    "share.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Fail if any image could not be read.")
def main(
    images: tuple[Path, ...],
    out: Path,
    network: str,
    describe: Path | None,
    trained_on: str | None,
    weights: str,
    recipe: str,
    layers: tuple[str, ...],
    pool: str | None,
    views: tuple[str, ...],
    colour: str | None,
    sizes: tuple[int, ...],
    engine: str,
    precision: str,
    tables: tuple[Path, ...],
    more_tables: tuple[Path, ...],
    id_column: str | None,
    label_columns: tuple[str, ...],
    split_column: str | None,
    group_column: str | None,
    roles: dict[str, str],
    class_level: str | None,
    trust: str | None,
    dry_run: bool,
    as_json: str | None,
    as_csv: str | None,
    replace: bool,
    dtype: str | None,
    shards: int | None,
    shard: tuple[int, int] | None,
    prune: bool,
    cluster: str | None,
    strict: bool,
) -> None:
    """Embed the images below the folders IMAGES and keep the embeddings in a feature file.

    Folders, tables, weights and the feature file may lie at s3://, gs:// or az:// addresses, and
    what is read at https:// ones, too.

    IMAGES are laid out as SPLIT/CLASS/image or CLASS/image, or are any folders with --labels.
    Run again, only images that are new cost anything; an interrupted run goes on where it was.
    """
    from features.console import report_plan
    from features.datasets.folders import Choices, find_images
    from features.datasets.tables import LabelTable
    from features.embedding.recipes import choose_recipe
    from features.errors import LesionError
    from features.extraction.ways import choose_way
    from features.networks.imported.lookup import find_network
    from features.numbers import count
    from features.presenting import print_anything

    print_anything()
    if shards and shard and shards != shard[1]:
        raise click.UsageError(f"got --shards {shards} and --shard {shard[0]}/{shard[1]}: give one")
    if shard and cluster:
        raise click.UsageError(
            "got --shard and --cluster: a cluster makes all of them, say --shards"
        )
    number, of = shard or (None, shards)
    columns = (id_column, label_columns, split_column, group_column)
    way = choose_way(out, of=of, number=number, cluster=cluster)
    try:
        if not dry_run:
            way.prepare()
            frozen, brought = find_network(network, describe, weights)
            # A million images take minutes to list: what is wrong with the options is said first.
            chosen = choose_recipe(
                frozen,
                recipe,
                layers=layers,
                pooling=pool,
                views=views,
                sizes=sizes,
                colour=colour,
            )
        found = find_images(
            images,
            [LabelTable(table, *columns) for table in tables]
            + [LabelTable(table, *columns, labelled=False) for table in more_tables],
            Choices(roles, class_level, trust),
            settled=False,
        )
        report_plan(found, as_json, as_csv)
        for loss in way.losses(found, replace=replace):
            click.echo(f"note: {loss}", err=True)
    except LesionError as error:
        sys.exit(f"error: {error}")
    if dry_run:
        return
    from features.console import Progress, report
    from features.embedding.extractor import load_extractor
    from features.extraction.job import Job
    from features.networks.weights import may_have_seen

    try:
        extractor = load_extractor(
            frozen,
            brought or weights,
            recipe=chosen,
            engine=engine,
            precision=precision,
        )
        extractor.trained_on = trained_on or extractor.trained_on
        if (seen := may_have_seen(extractor.trained_on)) is not None:
            click.echo(f"warning: {seen}", err=True)
        given = brought if brought and weights == "imagenet" else weights
        job = Job(
            *(frozen, given, chosen, engine, precision, extractor.trained_on, extractor.spec),
            *(found, out, dtype),
            prune=prune,
            replace=replace,
        )
        with Progress() as progress:
            outcome = way.run(job, extractor, progress)
        failed = report(job, outcome)
    except LesionError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped: what was embedded is kept; rerun the same command to resume")
    if strict and failed:
        sys.exit(f"error: {count(failed, 'image')} could not be read (--strict)")


if __name__ == "__main__":
    main()
