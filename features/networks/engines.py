"""How a network is run: one small interface, one module for each engine.

``openvino`` is the fast one on CPUs; ``devices.keras_engine`` is the reference, and the one for
GPUs.
"""

from __future__ import annotations

import importlib.util
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from features.errors import ExtractorError
from features.networks.weights import Source

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Engine",
    "Plan",
    "has_openvino",
    "load_converted",
    "load_engine",
    "plan_engine",
]

ENGINES: Final = ("auto", "keras", "openvino")
PRECISIONS: Final = ("auto", "fp32", "tf32", "bf16", "int8")

EngineName = Literal["keras", "openvino"]


class Engine(Protocol):
    """Runs a frozen network.

    Attributes
    ----------
    name : str
        What runs where, for a person.
    batch : int
        How many images to give at once, for speed.
    lanes : int
        How many threads it serves at the same time, each with an image of its own.
    """

    name: str
    batch: int
    lanes: int

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        ...

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        ...


@dataclass(frozen=True)
class Plan:
    """Which engine runs the network and in which number format."""

    engine: EngineName
    precision: str


def plan_engine(engine: str = "auto", precision: str = "auto") -> Plan:
    """Choose what suits this machine, without loading any engine.

    Parameters
    ----------
    engine : {"auto", "keras", "openvino"}
        ``"auto"`` is Keras where there is a GPU and OpenVINO elsewhere.
    precision : {"auto", "fp32", "tf32", "bf16", "int8"}
        ``"auto"`` is bf16 on CPUs with matrix units for it (AMX) and fp32 elsewhere: without such
        units bf16 is slower than fp32 on some, and on others twice as fast but further off than it
        promises, see docs/benchmarks.md. ``"tf32"``, float32 whose factors are rounded to 11 bits,
        is what some GPUs have.

    Returns
    -------
    Plan

    Raises
    ------
    ExtractorError
        If the two don't go together, or the engine isn't installed.
    """
    if engine not in ENGINES or precision not in PRECISIONS:
        raise ExtractorError(
            f"got engine {engine!r} and precision {precision!r}, expected one of "
            f"{', '.join(ENGINES)} and one of {', '.join(PRECISIONS)}"
        )
    if precision == "tf32" and (engine == "openvino" or not _has_gpu()):
        raise ExtractorError(
            "tf32 is a number format of GPUs, "
            + ("and openvino runs on CPUs" if engine == "openvino" else "and Keras sees none here")
            + ": use --precision fp32, or extract and serve where there is one"
        )
    installed = has_openvino()
    if engine == "openvino" and not installed:
        raise ExtractorError(
            "the engine openvino is not installed: run `pip install openvino`, "
            "or use --engine keras"
        )
    if engine == "auto":
        engine = "openvino" if installed and (precision == "int8" or not _has_gpu()) else "keras"
    if precision == "int8" and engine == "keras":
        raise ExtractorError("int8 needs the engine openvino: leave --engine out")
    if precision == "auto":
        precision = "bf16" if engine == "openvino" and has_matrix_units() else "fp32"
    return Plan("openvino" if engine == "openvino" else "keras", precision)


def load_engine(plan: Plan, source: Source, input_size: int, *, serving: int = 0) -> Engine:
    """Build the network and make it ready to run.

    Parameters
    ----------
    plan : Plan
    source : Source
    input_size : int
        Side of the square input in pixels.
    serving : int, optional
        How many views of one image come together, which are to be answered soon rather than many
        fast; 0 for many.

    Raises
    ------
    WeightsError
        If the weights don't fit the network.
    """
    if plan.engine == "keras":
        from features.networks.devices.keras_engine import KerasEngine

        return KerasEngine(source, input_size, plan.precision, serving=bool(serving))
    from features.networks.converted import converted_network

    found = converted_network(source, plan.precision)
    return load_converted(found.path, plan.precision, input_size, serving=serving)


def load_converted(path: Path, precision: str, input_size: int, *, serving: int = 0) -> Engine:
    """Make a converted network ready to run, without Keras.

    Parameters
    ----------
    path : Path
        As of `features.networks.converted.Converted`.
    precision : str
        As of `features.embedding.specification.ExtractorSpec`.
    input_size : int
        Side of the square input in pixels.
    serving : int, optional
        How many views of one image come together, which are to be answered soon rather than many
        fast; 0 for many.
    """
    if serving:
        from features.networks.openvino_serving import ServingEngine

        return ServingEngine(path, precision, input_size, serving)
    from features.networks.openvino import OpenVinoEngine

    return OpenVinoEngine(path, precision, input_size)


def has_openvino() -> bool:
    """Whether the engine for CPUs is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_matrix_units() -> bool:
    """Whether the CPU multiplies bf16 matrices in units of their own (Intel AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return re.search(r"^flags\b.*\bamx_bf16\b", flags, re.MULTILINE) is not None


def _has_gpu() -> bool:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return importlib.util.find_spec("tensorflow-plugins") is not None
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")):
        return False
    # A driver alone says nothing: the backend must have been built and set up for it.
    from features.networks.devices.backends import accelerator, choose_backend

    choose_backend()
    return accelerator() is not None
