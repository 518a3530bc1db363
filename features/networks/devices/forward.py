"""One pass of a Keras network that is begun and waited for apart, on each of Keras' backends.

`predict_on_batch` waits for its numbers before it returns: the device has nothing to do until the
next batch is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from features.networks.keras import import_keras
from features.storage.user_cache import user_cache

__all__ = ["begin", "keep_compiled"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Finish = Callable[[], list[Floats]]


def keep_compiled() -> None:
    """Keep on disk what JAX compiles, so that the next start need not; torch does so by itself."""
    if import_keras().backend.backend() != "jax":
        return
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(user_cache("compiled") / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def begin(model: Any, *, compiled: bool) -> Callable[[Pixels], Finish]:
    """Give what starts a pass of a network.

    Parameters
    ----------
    model : keras.Model
        From uint8 pixels to one output or several.
    compiled : bool
        Whether torch shall compile it; JAX and TensorFlow make a graph of it in any case, once for
        each shape.

    Returns
    -------
    callable
        Takes uint8 (n, size, size, 3), returns without waiting for the device, and gives what
        waits for the outputs.
    """
    backend = import_keras().backend.backend()
    if backend == "jax":
        return _begin_jax(model)
    if backend == "torch":
        return _begin_torch(model, compiled=compiled)
    return _begin_tensorflow(model)


def _begin_jax(model: Any) -> Callable[[Pixels], Finish]:
    import jax

    # As arguments and not as constants, which the compiler would compute with.
    trained = [each.value for each in model.trainable_variables]
    fixed = [each.value for each in model.non_trainable_variables]

    def forward(trained: Any, fixed: Any, pixels: Any) -> list[Any]:
        return _listed(model.stateless_call(trained, fixed, pixels, training=False)[0])

    run = jax.jit(forward)

    def start(pixels: Pixels) -> Finish:
        found = run(trained, fixed, jax.device_put(pixels))
        for each in found:
            each.copy_to_host_async()
        return lambda: [np.asarray(each, np.float32) for each in found]

    return start


def _begin_tensorflow(model: Any) -> Callable[[Pixels], Finish]:
    import tensorflow

    run = tensorflow.function(lambda pixels: _listed(model(pixels, training=False)))

    def start(pixels: Pixels) -> Finish:
        found = run(tensorflow.convert_to_tensor(pixels))
        return lambda: [np.asarray(each.numpy(), np.float32) for each in found]

    return start


def _begin_torch(model: Any, *, compiled: bool) -> Callable[[Pixels], Finish]:
    import torch

    def forward(pixels: Any) -> list[Any]:
        return _listed(model(pixels, training=False))

    run = _compiled(forward) if compiled else forward
    if not torch.cuda.is_available():

        def start_here(pixels: Pixels) -> Finish:
            with torch.inference_mode():
                found = run(_tensor(pixels))
            return lambda: [each.numpy().astype(np.float32, copy=False) for each in found]

        return start_here
    # On a stream of their own, pixels go up while the batch before is computed.
    upwards = torch.cuda.Stream()

    def start(pixels: Pixels) -> Finish:
        main = torch.cuda.current_stream()
        with torch.inference_mode():
            with torch.cuda.stream(upwards):
                there = _tensor(pixels).pin_memory().to("cuda", non_blocking=True)
            main.wait_stream(upwards)
            there.record_stream(main)
            here = [each.float().to("cpu", non_blocking=True) for each in run(there)]
            done = torch.cuda.Event()
            done.record(main)

        def finish() -> list[Floats]:
            done.synchronize()
            return [each.numpy() for each in here]

        return finish

    return start


def _tensor(pixels: Pixels) -> Any:
    import torch

    # torch warns of what it could write to but must not.
    return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())


def _compiled(forward: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    """Compile a function of torch; it runs as it is where that can't be done."""
    import torch
    from torch._dynamo.exc import TorchDynamoException

    quick = torch.compile(forward, dynamic=False)
    chosen: list[Callable[[Any], list[Any]]] = []

    def run(pixels: Any) -> list[Any]:
        if chosen:
            return chosen[0](pixels)
        try:
            found: list[Any] = quick(pixels)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            print(  # noqa: T201
                f"note: torch runs the network uncompiled, about half as fast ({reason}); "
                "compiling needs a C compiler and Python's header files",
                file=sys.stderr,
            )
            chosen.append(forward)
            return forward(pixels)
        chosen.append(quick)
        return found

    return run


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
