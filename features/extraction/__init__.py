"""From images to the feature file: each new file is read, hashed, decoded and embedded once.

additions: require_nothing_lost
job: Job
run: Outcome, extract
ways: ShardsOutcome, Watcher, Way, choose_way
Within the room: loop, remembered
"""

from features.extraction.run import Outcome, extract

__all__ = ["Outcome", "extract"]
