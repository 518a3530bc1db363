"""Age, sex and site: read, made into numbers, put beside a head's score.

encoding: NAMES, PatientError, Unused, blocks, read_patient, usable
fusion: FUSION, FusedHead, Fusion, STRENGTH, cross_fit, fit_fusion
tables: BANDS, BASELINE, Metadata, read_metadata
"""
