"""From a feature file to a comparison of heads.

classes: class_codes
comparison: compare_heads
options: Options
results: Comparison, HeadResult
selection: distinct, is_positive
Within the room: fitting, folds, leaks, own_heads, subgroups, tuning
"""
