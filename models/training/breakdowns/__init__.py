"""The chosen head on parts of the images: of one kind, or without those that leak.

leaks: audit_leaks
subgroups: subgroups
"""
