"""The one classifier of the process, and the cases that it judged.

loaded: LoadedClassifier, PRELOADED
reviews: Reviews, reviewed_labels
served: Case, Served
Within the room: batching, gathering, keeping, recent
"""
