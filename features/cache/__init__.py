"""The feature file: how it is written, read, checked and turned into others.

additions: require_nothing_lost
contents: Embeddings, Failure, Features, Items, read_features
rows: Rows, StoredTable, require_finite
safe_files: new_hdf5
writer: FeatureWriter, Size, require_place, require_writable
Within the room: checksums, commands, export, merge, seal, summary, verification
"""
