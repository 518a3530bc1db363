"""On what machine a figure was measured, and what it can do at most."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

import numpy as np

from features.networks.engines import has_matrix_units
from features.networks.libraries import import_openvino


def describe() -> str:
    """Name processor, cores, matrix units and software."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.+)", text)
    units = [
        name
        for flag, name in (("avx512f", "AVX-512"), ("avx512_vnni", "VNNI"), ("amx_bf16", "AMX"))
        if re.search(rf"\b{flag}\b", text)
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = model[1] if model else platform.processor()
    lacking = "" if has_matrix_units() else ", no AMX"
    versions = f"Python {platform.python_version()}, OpenVINO {import_openvino().__version__[:8]}"
    return f"{name}, {cores} cores, {'/'.join(units)}{lacking}; {versions}"


def matrix_gflops(precision: str, *, size: int = 2048, seconds: float = 4.0) -> float:
    """Measure what a large matrix product reaches in OpenVINO, in GFLOP/s, on all cores."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    left = ops.parameter([size, size], np.float32)
    right = ops.constant(rng.normal(size=(size, size)).astype(np.float32))
    model = openvino.Model([ops.matmul(left, right, False, False)], [left])
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    given = [rng.normal(size=(size, size)).astype(np.float32)]
    request.infer(given)
    rates = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        request.infer(given)
        rates.append(2e-9 * size**3 / (time.perf_counter() - start))
    return float(np.median(rates))
