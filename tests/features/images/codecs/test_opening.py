from __future__ import annotations

from PIL import Image

from features.images.decoding import Frame, decode
from tests.pictures import image_bytes

FRAMES = (Frame(299, "whole", "shades-of-grey"), Frame(299, "lesion", "shades-of-grey"))


def test_memory_is_kept_for_the_next_picture() -> None:
    """Whoever decodes many small pictures would spend a fifth of the time on fetching memory."""
    data = image_bytes(1, (256, 256))
    decode(data, *FRAMES)
    Image.core.reset_stats()
    for _ in range(5):
        decode(data, *FRAMES)
    stats = Image.core.get_stats()
    assert stats["reused_blocks"] > 5 * stats["allocated_blocks"]
    # What is kept of large pictures has a limit, too.
    assert stats["blocks_cached"] <= 6
