"""The engine of the service: images that come one by one, alone or many at a time."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.networks.openvino import OpenVinoNetwork

__all__ = ["Cores", "ServingEngine"]

_BATCH: Final = 64
# With more, an image waits longer for its few cores than they gain by not waiting for each other.
_MOST_STREAMS: Final = 4
# Images at hand for each stream: when one is done the next begins without waiting for Python.
_AHEAD: Final = 2

_Reader = Callable[[Any], list[Any]]


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

    An image that comes alone is spread over all cores and answered soonest: its views at the same
    time, as far as there are cores. Where several images come at the same time each has a lane to
    itself, in which more of them are done in a second, and none waits for another's end.

    Parameters
    ----------
    path, precision, input_size
        As for `features.networks.openvino.OpenVinoNetwork`.
    views : int, optional
        How many views of one image are given together.

    Raises
    ------
    ExtractorError
        If this CPU can't compute in that precision, or the network can't be read.
    """

    batch = _BATCH

    def __init__(self, path: Path, precision: str, input_size: int, views: int = 1) -> None:
        network = OpenVinoNetwork(path, precision, input_size)
        self.name = network.name
        streams = min(network.cores, _MOST_STREAMS)
        self._views = min(views, network.cores)
        self.lanes = _AHEAD * streams if streams > 1 else 1
        alone = network.compile(self._views, maps=True)
        self._dim = alone.output(0).partial_shape[1].get_length()
        # A network that was made ready once more would take its memory once more.
        self._shared = self._views == streams
        beside = alone if self._shared else network.compile(streams, maps=False)
        self._idle = deque(beside.create_infer_request() for _ in range(self.lanes))
        self._alone: Sequence[Any] = tuple(self._idle)[: self._views]
        if not self._shared:
            self._alone = [alone.create_infer_request() for _ in range(self._views)]
        self._cores = Cores(self.lanes)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch: uint8 (n, size, size, 3) to float32 (n, d)."""
        if 0 < len(pixels) <= self._views:
            (found,) = self._run_one(pixels, _embedding)
            return found
        embeddings = np.empty((len(pixels), self._dim), np.float32)
        for start in range(0, len(pixels), self.lanes):
            part = slice(start, start + self.lanes)
            with self._cores.every(), self._requests(len(pixels[part])) as requests:
                embeddings[part] = _run(requests, pixels[part], _embedding)[0]
        return embeddings

    def run_with_maps(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], list[npt.NDArray[np.float32]]]:
        """Embed a batch as `run` does, and give each layer's maps (n, height, width, channels)."""
        if self._shared:
            embeddings, *maps = self._run_one(pixels, _everything)
        else:
            with self._cores.every():
                embeddings, *maps = _run(self._alone, pixels, _everything)
        return embeddings, maps

    def _run_one(
        self, pixels: npt.NDArray[np.uint8], read: _Reader
    ) -> list[npt.NDArray[np.float32]]:
        """Run the views of one image: at the same time if it is alone, or in a lane."""
        with self._cores.some() as all_of_them:
            if all_of_them:
                return _run(self._alone, pixels, read)
            with self._requests(1) as requests:
                return _run(requests, pixels, read)

    @contextlib.contextmanager
    def _requests(self, count: int) -> Iterator[list[Any]]:
        taken = [self._idle.popleft() for _ in range(count)]
        try:
            yield taken
        finally:
            self._idle.extend(taken)


def _run(
    requests: Sequence[Any], pixels: npt.NDArray[np.uint8], read: _Reader
) -> list[npt.NDArray[np.float32]]:
    """Run images, as many at the same time as there are requests; what is read, stacked."""
    found: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(pixels), len(requests)):
        begun = list(zip(requests, pixels[start : start + len(requests)], strict=False))
        for request, image in begun:
            request.start_async(image[np.newaxis])
        for place, (request, _) in enumerate(begun, start):
            request.wait()
            parts = [tensor.data[0] for tensor in read(request)]
            # Copied once: the maps of an image are megabytes.
            found = found or [np.empty((len(pixels), *each.shape), each.dtype) for each in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[place] = part
    return found


def _embedding(request: Any) -> list[Any]:
    return [request.get_output_tensor(0)]


def _everything(request: Any) -> list[Any]:
    return list(request.output_tensors)
