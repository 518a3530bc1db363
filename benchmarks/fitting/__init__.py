"""Heads: how fast they are fitted, and how good."""
