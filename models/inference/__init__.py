"""A bundle at work: verdicts, where they come from, and how it does on other images.

assessment: Assessment, against, evaluate_bundle, match_features, write_scores
classifier: Classifier
evidence: Evidence
feedback: FeedbackFailed, FeedbackRecord, add_feedback
feedback_store: FeedbackStore
text: as_csv, as_json, as_text
verdict: Rejected, Verdict
Within the room: drift, products, rivals, scoring, wording
"""
