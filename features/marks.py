"""What a result says of itself when it was not made from trained weights and photographs."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["MARKS"]

MARKS: Final = MappingProxyType(
    {
        "untrained": "The network's weights are random: "
        "numbers made with them mean nothing for a patient.",
        "synthetic": "The images are drawn, not photographed: "
        "numbers made with them mean nothing for a patient.",
    }
)
