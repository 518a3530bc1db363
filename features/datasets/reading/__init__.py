"""What lies on the disk: files, folder names, the cells of tables, and what columns are called.

cells: Table, read_table
collections: LABEL_COLUMNS, METADATA_COLUMNS, find_collection, named_like, spelt
folder_names: Places, read_places
folder_words: COUNTED, FILLERS, GRADED, beside_known
split_columns: SplitReading, read_splits
walking: LeftOut, image_files, walk
"""
