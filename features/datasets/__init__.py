"""Which images there are, with label, split and group; and drawn ones.

drawn: LABELS, sample_lesion
drawn_lesion: draw_lesion
folders: Dataset, Item, find_images
splits: CROSS_VALIDATION, SPLITS, part_of
tables: LabelTable
Within the room: drawn_patterns, drawn_skin
"""
