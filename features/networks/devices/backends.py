"""Which library Keras runs on, and what device that has."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Final

from features.networks.keras import import_keras

__all__ = ["BACKENDS", "accelerator", "choose_backend", "device_memory"]

# In the order of what was measured on an H100: see docs/benchmarks.md.
BACKENDS: Final = ("jax", "torch", "tensorflow")
_JAX_PLUGINS: Final = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin")


def choose_backend() -> None:
    """Have Keras run on the first of `BACKENDS` that is built for a GPU.

    Whoever sets ``KERAS_BACKEND``, or imported Keras before, has chosen; and where no library is
    built for a GPU it stays with Keras' own choice.
    """
    if os.environ.get("KERAS_BACKEND") or "keras" in sys.modules:
        return
    for name in BACKENDS:
        if _built_for_a_gpu(name):
            os.environ["KERAS_BACKEND"] = name
            return


def accelerator() -> str | None:
    """Name the GPU that Keras' backend would use; None if there is none."""
    backend = import_keras().backend.backend()
    if backend == "tensorflow":
        import tensorflow

        devices = tensorflow.config.list_physical_devices("GPU")
        if not devices:
            return None
        details = tensorflow.config.experimental.get_device_details(devices[0])
        return str(details.get("device_name", "a GPU"))
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return str(device.device_kind) if device.platform != "cpu" else None
    return None


def device_memory() -> int | None:
    """Give the free memory of the GPU in bytes; None where the backend doesn't tell."""
    backend = import_keras().backend.backend()
    if backend == "torch":
        import torch

        return int(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    if backend == "jax":
        import jax

        told = jax.devices()[0].memory_stats() or {}
        return int(told["bytes_limit"] - told["bytes_in_use"]) if "bytes_limit" in told else None
    return None


def _built_for_a_gpu(backend: str) -> bool:
    if backend == "jax":
        return importlib.util.find_spec("jax") is not None and any(
            importlib.util.find_spec(plugin) is not None for plugin in _JAX_PLUGINS
        )
    if backend == "torch" and importlib.util.find_spec("torch") is not None:
        import torch

        return bool(torch.cuda.is_available())
    return False
