"""The engine of the service: images that come one by one, alone or many at a time."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.networks.openvino import OpenVinoNetwork, look

__all__ = ["Cores", "ServingEngine"]

_BATCH: Final = 64
# With more, an image waits longer for its few cores than they gain by not waiting for each other.
_MOST_STREAMS: Final = 4
# Images at hand for each stream: when one is done the next begins without waiting for Python.
_AHEAD: Final = 2


class Cores:
    """The machine's cores as lanes, of which whoever comes takes one, or all; first come, first.

    Parameters
    ----------
    lanes : int
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = self._free = lanes
        self._changed = threading.Condition()
        # Nobody overtakes who waits for all lanes.
        self._turn = threading.Lock()
        self._asking = 0

    @contextlib.contextmanager
    def some(self) -> Iterator[bool]:
        """Take all lanes if nobody else wants one, or else one; gives whether it is all."""
        with self._take(every=False) as taken:
            yield taken == self._lanes

    @contextlib.contextmanager
    def every(self) -> Iterator[None]:
        """Take all lanes."""
        with self._take(every=True):
            yield

    @contextlib.contextmanager
    def _take(self, *, every: bool) -> Iterator[int]:
        with self._changed:
            self._asking += 1
        with self._turn, self._changed:
            least = self._lanes if every else 1
            self._changed.wait_for(lambda: self._free >= least)
            self._asking -= 1
            alone = self._free == self._lanes and not self._asking
            taken = self._lanes if every or alone else 1
            self._free -= taken
        try:
            yield taken
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()


class ServingEngine:
    """Runs a converted network for several threads, each with an image or a few.

    An image that comes alone is spread over all cores and answered soonest. Where several come at
    the same time each has a lane to itself, in which more of them are done in a second, and none
    waits for another's end.

    Parameters
    ----------
    path, precision, input_size
        As for `features.networks.openvino.OpenVinoNetwork`.

    Raises
    ------
    ExtractorError
        If this CPU can't compute in that precision, or the network can't be read.
    """

    fixed_batch = False
    batch = _BATCH

    def __init__(self, path: Path, precision: str, input_size: int) -> None:
        network = OpenVinoNetwork(path, precision, input_size)
        self.name = network.name
        streams = min(network.cores, _MOST_STREAMS)
        self.lanes = _AHEAD * streams if streams > 1 else 1
        alone = network.compile(1, maps=True)
        self._dim = alone.output(0).partial_shape[1].get_length()
        self._alone = alone.create_infer_request()
        # On a single core every image is alone.
        self._idle: deque[Any] = deque()
        if self.lanes > 1:
            beside = network.compile(streams, maps=False)
            self._idle.extend(beside.create_infer_request() for _ in range(self.lanes))
        self._cores = Cores(self.lanes)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        if len(pixels) == 1:
            with self._cores.some() as all_of_them:
                return self._embed(pixels, alone=all_of_them)
        embeddings = np.empty((len(pixels), self._dim), np.float32)
        for start in range(0, len(pixels), self.lanes):
            part = slice(start, start + self.lanes)
            with self._cores.every():
                embeddings[part] = self._embed(pixels[part], alone=len(pixels[part]) == 1)
        return embeddings

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        with self._cores.every():
            return look(self._alone, pixels)

    def _embed(self, pixels: npt.NDArray[np.uint8], *, alone: bool) -> npt.NDArray[np.float32]:
        """Run at most as many images as there are lanes, at the same time."""
        requests = [self._alone] if alone else [self._idle.popleft() for _ in pixels]
        try:
            for request, image in zip(requests, pixels, strict=True):
                request.start_async(image[np.newaxis])
            found = []
            for request in requests:
                request.wait()
                found.append(request.get_output_tensor(0).data[0].copy())
        finally:
            if not alone:
                self._idle.extend(requests)
        return np.stack(found)
