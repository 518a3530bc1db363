"""Images read by processes of their own, so that every core decodes and none takes all down."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Final

from joblib.externals.loky import ProcessPoolExecutor

from features.images.decoding import Frame, Pixels
from features.images.reading import Asked, Read, SharedBoard, read_all
from features.images.resampling.compiled import NotCompiled, load_kernels

__all__ = ["Readers", "kept_workers", "usable_cores"]

# What is asked of a worker at once: less, and asking costs more than it should.
_TOGETHER: Final = 4
_AHEAD: Final = 64
# A worker takes about as long to start as a core to decode so many images.
_WORTH_A_WORKER: Final = 32
# Compiled code takes a process half a second to load, and saves at least one millisecond an image.
_WORTH_COMPILED: Final = 500
# So few are read by threads before the first worker would have started.
_FEW: Final = 16
_TRIES: Final = 2
_GLANCE: Final = 0.5
_CRASHED: Final = "decoding it ended the process that did: save it anew by another program"
# While `kept_workers` lasts: idle processes, and how many they are.
_KEPT: Final[list[tuple[ProcessPoolExecutor, int]]] = []
_KEEPING: Final = threading.Event()
# Each worker has a core to itself; libraries that started threads in it would take the others'.
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Readers:
    """Processes that read images; use it as a context manager.

    A process that dies is replaced. What it was working on is tried again alone, and fails if that
    ends the process again; all other images are read as if nothing had been.

    Parameters
    ----------
    frames : sequence of Frame
        What an image is decoded to.
    images : int
        About how many there are: for a few, fewer processes are started; up to 16 are read by
        threads of this process, which a decoder that crashes takes down.
    known : iterable of str, optional
        Hashes of images that need not be decoded.
    processes : int, optional
        By default one for each core, if there are images enough.
    together : int, optional
        What is asked of a worker at once.

    Raises
    ------
    OSError
        If there is not enough memory, or no process can be started.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        images: int,
        *,
        known: Iterable[str] = (),
        processes: int | None = None,
        together: int = _TOGETHER,
    ) -> None:
        self._together = together
        most = processes or usable_cores()
        self.processes = max(1, min(most, -(-images // _WORTH_A_WORKER)))
        self._compiled = images >= _WORTH_COMPILED * self.processes
        rows = min(_AHEAD, -(-images // together) * together) + 2 * self.processes * together
        self._shared = SharedBoard(frames, rows, known)
        self._free = list(range(rows))
        self._few = processes is None and images <= _FEW
        self._executor: Executor | None = None
        self._begun = 0
        self._done: queue.SimpleQueue[Future[list[Read]]] = queue.SimpleQueue()
        self._running: dict[Future[list[Read]], list[Asked]] = {}
        self._again: deque[Asked] = deque()
        self._todo: Iterator[Asked] = iter(())
        self._in_vain = 0

    def __enter__(self) -> Readers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and not self._running:
            self._hand_on()
        self._stop()
        self._shared.close()

    def start(self, wanted: Iterable[tuple[int, str, bool]]) -> None:
        """Begin to read files; `results` gives what comes of them.

        Parameters
        ----------
        wanted : iterable of (int, str, bool)
            A number for the caller's use, the path, and whether an image that is known need not be
            decoded; taken as it is needed.
        """
        self._todo = (Asked(number, path, -1, known) for number, path, known in wanted)
        self._fill()

    def results(self) -> Iterator[tuple[Read, tuple[Pixels, ...]]]:
        """Give what came of each file, in any order, and its frames if it was decoded.

        The frames are overwritten as soon as the next file is asked for.
        """
        while self._running:
            future = self._done.get()
            asked = self._running.pop(future, None)
            if asked is None:
                continue
            try:
                found = future.result()
            except BrokenExecutor:
                found = None
            if found is None:
                yield from self._after_a_crash([asked, *self._running.values()])
            else:
                self._in_vain = 0
                yield from self._given(asked, found)
            self._fill()

    def _given(
        self, asked: Sequence[Asked], found: Sequence[Read]
    ) -> Iterator[tuple[Read, tuple[Pixels, ...]]]:
        for each, read in zip(asked, found, strict=True):
            yield read, self._shared.pixels(each.row) if read.decoded else ()
            self._free.append(each.row)

    def _fill(self) -> None:
        while len(self._free) >= self._together:
            asked: list[Asked] = []
            while len(asked) < self._together and (each := self._next()) is not None:
                asked.append(Asked(each.number, each.path, self._free.pop(), each.known))
            if not asked:
                return
            self._submit(asked)

    def _next(self) -> Asked | None:
        return self._again.popleft() if self._again else next(self._todo, None)

    def _submit(self, asked: list[Asked]) -> None:
        try:
            if self._executor is None:
                self._executor = self._take_on() or self._begin(self.processes)
            future = self._executor.submit(read_all, self._shared.board, asked)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        self._running[future] = asked
        future.add_done_callback(self._done.put)

    def _after_a_crash(
        self, lost: Sequence[Sequence[Asked]]
    ) -> Iterator[tuple[Read, tuple[Pixels, ...]]]:
        """Start anew; try alone what was being decoded, which may be what ended the process."""
        self._running.clear()
        self._stop()
        every = list(itertools.chain.from_iterable(lost))
        suspects = [each for each in every if self._shared.marks[each.row]]
        self._shared.marks[:] = 0
        self._again.extend(each for each in every if each not in suspects)
        self._free += [each.row for each in every if each not in suspects]
        self._in_vain = 0 if suspects else self._in_vain + 1
        for each in suspects:
            yield from self._given([each], [self._alone(each)])
        if suspects:
            self._stop()

    def _alone(self, asked: Asked) -> Read:
        for _ in range(_TRIES):
            if self._executor is None:
                self._executor = self._begin(1)
            try:
                return self._executor.submit(read_all, self._shared.board, [asked]).result()[0]
            except BrokenExecutor:
                self._stop()
        return Read(asked.number, code="unreadable", reason=_CRASHED)

    def _hand_on(self) -> None:
        """Leave idle processes to those who read next, where somebody wants that."""
        if _KEEPING.is_set() and not _KEPT and isinstance(self._executor, ProcessPoolExecutor):
            _KEPT.append((self._executor, self._begun))
            self._executor = None

    def _take_on(self) -> Executor | None:
        if not _KEPT or self._few:
            return None
        kept, self._begun = _KEPT.pop()
        if self._begun >= self.processes:
            found: Executor = kept
            return found
        kept.shutdown(wait=True, kill_workers=True)
        return None

    def _begin(self, processes: int) -> Executor:
        self._begun = processes
        if not self._few and self._in_vain < _TRIES:
            # Where there are no semaphores, processes can't be had at all.
            with contextlib.suppress(OSError):
                return _workers(processes, compiled=self._compiled)
        return ThreadPoolExecutor(processes)

    def _stop(self) -> None:
        executor, self._executor = self._executor, None
        if isinstance(executor, ProcessPoolExecutor):
            # Asked to kill its workers while there is something to do, loky trips over it.
            for process in list(executor._processes.values()) if self._running else ():
                process.terminate()
            executor.shutdown(wait=True, kill_workers=not self._running)
        elif executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def kept_workers() -> Iterator[None]:
    """Let those who read one after another use the same processes, which take long to start."""
    _KEEPING.set()
    try:
        yield
    finally:
        _KEEPING.clear()
        while _KEPT:
            _KEPT.pop()[0].shutdown(wait=True, kill_workers=True)


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _workers(processes: int, *, compiled: bool = False) -> Executor:
    executor: Executor = ProcessPoolExecutor(
        processes,
        initializer=_prepare,
        initargs=(os.getpid(), compiled),
        env=dict.fromkeys(_THREADS, "1"),
    )
    with _without_ctrl_c():
        # All processes are started by the first thing to do, and from the thread that asks for it.
        executor.submit(usable_cores)
    return executor


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the one that started them ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Python's own tracker of semaphores lets the signal through again when it is started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(parent: int, compiled: bool) -> None:
    _watch(parent)
    if compiled:
        # Images are decoded meanwhile, and without it where it can't be had: to the same pixels.
        threading.Thread(target=_load, daemon=True).start()


def _load() -> None:
    with contextlib.suppress(NotCompiled):
        load_kernels()


def _watch(parent: int) -> None:
    """End this process when the one that started it is gone, however it went."""
    # Ctrl-C is for that one; should loky start this process anew, nothing else would keep it away.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
