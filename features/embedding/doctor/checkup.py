"""Looks at everything that extraction needs, without loading a network."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Final

from features.embedding.doctor import machine
from features.embedding.doctor.findings import Finding
from features.errors import ExtractorError
from features.images.resampling.compiled import NotCompiled, load_kernels
from features.networks.engines import has_openvino, plan_engine
from features.networks.registry import DEFAULT_NETWORK, NETWORKS, KerasApplication
from features.networks.weights import keras_folder
from features.storage.user_cache import user_cache

__all__ = ["EXTRAS", "check"]

# By the extra of `pip install '.[NAME]'`: the modules that it brings, and what they are for.
EXTRAS: Final = {
    "heif": (("pillow_heif",), "HEIC and AVIF, as phones write them"),
    "dicom": (("pydicom", "pylibjpeg", "libjpeg", "openjpeg"), "DICOM"),
    "excel": (("openpyxl",), "tables in .xlsx"),
    "parquet": (("pyarrow",), "tables in .parquet"),
    "int8": (("nncf",), "--precision int8"),
    "onnx": (("onnx",), "networks in ONNX files"),
    "timm": (("timm", "torch", "onnx"), "networks of timm, exported once"),
    "hf": (("transformers", "torch", "torchvision", "onnx"), "those of Hugging Face"),
    "jax": (("jax",), "networks computed by JAX, as on GPUs"),
    "gunicorn": (("gunicorn",), "several processes of the service"),
    "s3": (("s3fs",), "what lies at s3:// addresses"),
    "gcs": (("gcsfs",), "what lies at gs:// addresses"),
    "azure": (("adlfs",), "what lies at az:// addresses"),
    "https": (("fsspec", "aiohttp"), "what lies at https:// addresses"),
    "neighbours": (("usearch",), "copies among 200,000 images and more"),
    "postgres": (("psycopg",), "feedback that several machines keep in PostgreSQL"),
    "cluster": (("ray",), "extraction on the machines of a Ray cluster"),
    "redis": (("redis",), "limits that several processes of the service share"),
}
_BACKENDS: Final = ("tensorflow", "jax", "torch")
_LEAST_MEMORY: Final = 1 << 30
_LEAST_DISK: Final = 1 << 30


def check(out: Path) -> list[Finding]:
    """Look at engine, machine, weights, decoders and extras.

    Parameters
    ----------
    out : Path
        The folder that feature files are to be written to.

    Returns
    -------
    list of Finding
    """
    return [*_engine(), *_machine(out), *_weights(), *_decoders()]


def _engine() -> list[Finding]:
    openvino = _version("openvino")
    found = [
        Finding("engine", "OpenVINO", openvino)
        if has_openvino()
        else Finding(
            "engine", "OpenVINO", "not installed", "optional", "pip install openvino: CPUs are "
            "half as fast without",
        )
    ]  # fmt: skip
    backends = [name for name in _BACKENDS if importlib.util.find_spec(name)]
    if importlib.util.find_spec("keras") and backends:
        versions = ", ".join(f"{name} {_version(name)}" for name in backends)
        found.append(Finding("engine", "Keras", f"{_version('keras')} on {versions}"))
    else:
        found.append(
            Finding(
                "engine", "Keras", "not installed", "missing",
                "pip install keras tensorflow: networks are built by it",
            )
        )  # fmt: skip
        return found
    try:
        plan = plan_engine()
    except ExtractorError as error:
        return [*found, Finding("engine", "chosen", "none", "missing", str(error))]
    if plan.engine == "keras":
        from features.networks.devices.backends import accelerator
        from features.networks.keras import import_keras

        device = f"{accelerator() or 'the CPU'}, by {import_keras().backend.backend()}"
    else:
        device = "the CPU"
    return [*found, Finding("engine", "chosen", f"{plan.engine} in {plan.precision} on {device}")]


def _machine(out: Path) -> list[Finding]:
    usable, there = machine.cores()
    free, total = machine.memory_free()
    inner = ", ".join(machine.instructions()) or "no vector units known"
    limited = f" of {there}" if usable < there else ""
    found = [
        Finding("machine", "cores", f"{usable}{limited}: {machine.processor()} ({inner})"),
        _enough("memory", free, _LEAST_MEMORY, f" free of {machine.readable_size(total)}",
                "close other programs, or give the container more: extraction takes about 0.5 GiB "
                "on CPUs, fitting 3 GiB for 2,000 images"),
    ]  # fmt: skip
    for name, folder in (("feature files", out), ("kept networks", user_cache("networks"))):
        found.append(
            _enough(
                f"disk for {name}", machine.disk_free(folder), _LEAST_DISK, f" free at {folder}",
                "free some space, or choose another place with --out or LESION_CACHE",
            )
        )  # fmt: skip
    return found


def _weights() -> list[Finding]:
    found = []
    for network in NETWORKS.values():
        origin = network.origin
        if not isinstance(origin, KerasApplication):
            continue
        path = keras_folder() / origin.file
        if path.is_file():
            value = f"ImageNet's, {machine.readable_size(path.stat().st_size)}, at {path}"
            found.append(Finding("weights", network.name, value))
        elif network.name == DEFAULT_NETWORK:
            # It is not needed by who has a weights file of their own.
            found.append(Finding("weights", network.name, "not here", "optional", _fetch(origin)))
    rest = [name for name in NETWORKS if name not in {each.name for each in found}]
    if rest:
        told = f"not here: {', '.join(rest)}"
        found.append(
            Finding("weights", "others", told, "ok", "fetched when --network first names them")
        )
    return found


def _fetch(origin: KerasApplication) -> str:
    return (
        f"extract_features.py fetches them once; without a network connection, put the file that "
        f"lies at {origin.url} into {keras_folder()}, or give --weights PATH"
    )


def _decoders() -> list[Finding]:
    formats = Finding("extras", "JPEG, PNG, TIFF, WebP, BMP, GIF", f"Pillow {_version('pillow')}")
    found = [formats, _resampling()]
    for extra, (modules, purpose) in EXTRAS.items():
        lacking = [name for name in modules if importlib.util.find_spec(name) is None]
        found.append(
            Finding("extras", purpose, f"lacks {', '.join(lacking)}", "optional",
                    f"pip install -e '.[{extra}]'")
            if lacking
            else Finding("extras", purpose, ", ".join(modules))
        )  # fmt: skip
    return found


def _resampling() -> Finding:
    try:
        load_kernels()
    except NotCompiled as error:
        mend = "pip install numba; without it images take up to twice as long to decode"
        return Finding("extras", "resampling", f"Pillow alone: {error}", "optional", mend)
    return Finding("extras", "resampling", f"compiled by Numba {_version('numba')}")


def _enough(name: str, free: int, least: int, told: str, mend: str) -> Finding:
    value = machine.readable_size(free) + told
    if free >= least:
        return Finding("machine", name, value)
    return Finding("machine", name, value, "missing", mend)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "of unknown version"
