"""The one classifier of the process, and the cases that it judged.

loaded: Case, LoadedClassifier, PRELOADED, Served
reviews: Reviews, reviewed_labels
Within the room: batching
"""
