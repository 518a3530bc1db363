"""The classifiers that sit on the embeddings.

base: HEADS, Head, Settings, fit, score, worthwhile_threads
classes: ClassHead, ClassHeads, share_out
ensemble: ENSEMBLE, Ensemble, MEMBERS, TITLE, average
files: HEAD_FILES, HeadFileError, dump_head, load_head
fold: Fold, Rows, whole
nystroem: NYSTROEM
refitting: prepare, refit
searches: search_of
streaming: search_in_blocks, streams
Within the room: blockwise, boosting, eigen, kernel_machine, streaming_trees
"""
