"""Which images there are, with label, split and group; and drawn ones.

drawn: LABELS, sample_lesion
drawn_lesion: draw_lesion
folders: Choices, Dataset, Item, find_images
joining: Files, id_column_of, split_word
plan: as_csv, as_json, lines, summarise
splits: CROSS_VALIDATION, SPLITS, part_of
tables: LabelTable
vocabulary: canonical_class, flag, is_missing, may_be, number, same_class, sex, site
Within the room: drawn_patterns, drawn_skin, labelling
"""
