"""What a result says of itself when it was not made from trained weights and photographs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["MARKS"]

MARKS: Final = MappingProxyType(
    {
        "untrained": "The network's weights are random: its numbers mean nothing for a patient.",
        "synthetic": "It was made from drawn images, not from photographs: "
        "its numbers mean nothing for a patient.",
    }
)
