"""Every figure of a head on labelled images, and its interval.

binary: evaluate, operating_point
classes: ClassEvaluation, evaluate_classes
paired: PairedTest, as_rows, compare_all, sentence
representations: Ranking, Representation, Row, rank
reliability: net_benefit, tenths
roc: auc_interval
values: Evaluation, Interval, Labels, number, or_none
Within the room: curves, intervals
"""
