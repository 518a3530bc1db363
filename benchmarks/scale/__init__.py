"""Measurements of what millions of images take."""
