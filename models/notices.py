"""Words that stand wherever a person reads a result."""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_A_DIAGNOSIS", "SPLIT_TITLES"]

NOT_A_DIAGNOSIS: Final = "Decision support, not a diagnosis."
SPLIT_TITLES: Final = {
    "cross-validation": "Cross-validation",
    "valid": "Validation split",
    "test": "Test split",
}
