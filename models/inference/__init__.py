"""A bundle at work: verdicts, where they come from, and how it does on other images.

assessment: Assessment, against, evaluate_bundle, write_scores
classifier: Classifier
evidence: Evidence
feedback: FeedbackFailed, FeedbackRecord, FeedbackStore, add_feedback
text: as_csv, as_json, as_text
verdict: Rejected, Verdict
Within the room: products, rivals, scoring, wording
"""
