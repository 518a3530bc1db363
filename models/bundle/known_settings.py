"""Settings that are known already, so that nothing has to be searched."""

from __future__ import annotations

import math
from pathlib import Path

from features.storage.addresses import is_remote
from models.bundle.fetching import fetch_bundle
from models.bundle.manifest import MANIFEST, read_manifest
from models.errors import TrainingError
from models.heads import HEADS
from models.heads.base import Settings

__all__ = ["read_settings"]


def read_settings(text: str, names: list[str]) -> tuple[str, Settings]:
    """Read the settings of a head.

    Parameters
    ----------
    text : str
        ``NAME=NUMBER,NAME=NUMBER``, or the folder or the address of a bundle.
    names : list of str
        The heads that were asked for; may be empty with a bundle, which knows its head.

    Returns
    -------
    head : str
        Key of `models.heads.HEADS`.
    settings : dict

    Raises
    ------
    TrainingError
        If they are not those of the head, or it isn't clear of which.
    BundleRefused
        If the bundle is damaged.
    """
    if Path(text, MANIFEST).exists() or is_remote(text) or "=" not in text:
        values, _ = read_manifest(fetch_bundle(text))
        head, settings = str(values["head"]), dict(values["settings"])
        if names and names != [head]:
            raise TrainingError(
                f"the settings in {text} are of the head {head}, not of {', '.join(names)}: "
                f"give --heads {head}, or none"
            )
        if head not in HEADS:
            raise TrainingError(
                f"the head of {text}, {head}, has no settings of its own: "
                f"--settings takes those of {', '.join(HEADS)}"
            )
        if "members" in settings:
            raise TrainingError(
                f"the head of {text} averages several networks ({settings['members']}), each with "
                f"settings of its own: give those of one, as {head} has them on it alone"
            )
        return head, settings
    if len(names) != 1 or names[0] not in HEADS:
        raise TrainingError(
            f"--settings {text} needs the one head that they are of: "
            f"give --heads with one of {', '.join(HEADS)}"
        )
    return names[0], _parse(text, names[0])


def _parse(text: str, head: str) -> Settings:
    example = HEADS[head].candidates(1000)[0]
    wanted = ", ".join(f"{name}=…" for name in example)
    settings: Settings = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in example:
            raise TrainingError(f"{head} has no setting {name!r}: give all of {wanted}")
        try:
            number = type(example[name])(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            kind = "a whole number" if isinstance(example[name], int) else "a number"
            raise TrainingError(f"got {name}={value}, expected {kind} above 0")
        settings[name] = number
    if missing := [name for name in example if name not in settings]:
        raise TrainingError(f"{head} also needs {', '.join(missing)}: give all of {wanted}")
    if objection := HEADS[head].objection(settings):
        raise TrainingError(objection)
    return settings
