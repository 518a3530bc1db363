"""Embeddings of several networks, compared on the same images.

comparing: compare_representations, require_several
matching: match_images, name_files
groups: find_shared_groups
Within the room: agreeing, combining, described
"""
