"""Extraction: engines, decoding and whole commands."""
