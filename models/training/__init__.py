"""From a feature file to a comparison of heads.

`representations/` compares them on the embeddings of several networks, `breakdowns/` judges the
chosen one on parts of the images.

classes: class_codes
comparison: compare_heads
options: Options
relabelling: Relabelling, read_relabelling
results: Comparison, HeadResult
selection: distinct, is_positive
Within the room: fitting, folds, own_heads, tuning
"""
