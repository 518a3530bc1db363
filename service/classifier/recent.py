"""What the network saw of the latest images, until their maps are asked for a moment later."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from models.inference.evidence import Seen

__all__ = ["Recent"]

# Several times what an image takes with networks of the usual size; one that takes more is seen
# once more.
_MOST_BYTES: Final = 48 << 20
# The page asks as soon as it has shown the verdict.
_SECONDS: Final = 10.0


class Recent:
    """Keeps what was seen of a few images for a few seconds, each for one who asks."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._kept: dict[str, tuple[float, Seen]] = {}
        self._forgetting = False

    def keep(self, sha256: str, seen: Seen) -> None:
        """Keep it under the hash of the image file, and no more than fits of those before."""
        with self._changing:
            self._kept.pop(sha256, None)
            self._kept[sha256] = (time.monotonic() + _SECONDS, seen)
            while sum(each.nbytes for _, each in self._kept.values()) > _MOST_BYTES:
                del self._kept[next(iter(self._kept))]
            self._forget_later()

    def take(self, sha256: str) -> Seen | None:
        """Give what is kept under this hash, and forget it."""
        with self._changing:
            return self._kept.pop(sha256, (0.0, None))[1]

    def _forget_later(self) -> None:
        if self._kept and not self._forgetting:
            self._forgetting = True
            first = min(end for end, _ in self._kept.values())
            timer = threading.Timer(max(0.0, first - time.monotonic()), self._forget)
            timer.daemon = True
            timer.start()

    def _forget(self) -> None:
        with self._changing:
            self._forgetting = False
            now = time.monotonic()
            self._kept = {name: kept for name, kept in self._kept.items() if kept[0] > now}
            self._forget_later()
