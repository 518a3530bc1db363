"""From images to the feature file: each new file is read, hashed, decoded and embedded once.

additions: require_nothing_lost
run: Outcome, extract
Within the room: loop, remembered
"""

from features.extraction.run import Outcome, extract

__all__ = ["Outcome", "extract"]
