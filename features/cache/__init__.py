"""The feature file: how it is written, read, checked and turned into others.

contents: Embeddings, Failure, Features, read_features
items: Items, StoredItems
rows: Rows, StoredTable, require_finite
safe_files: new_hdf5
writer: FeatureWriter, Size, require_place, require_writable
Within the room: commands, export, merge, summary, verification
"""
