"""From a feature file to a comparison of heads.

classes: class_codes
comparison: compare_heads
options: Options
relabelling: Relabelling, read_relabelling
results: Comparison, HeadResult
selection: distinct, is_positive
Within the room: fitting, folds, leaks, own_heads, subgroups, tuning
"""
