"""Embeddings of several networks, compared on the same images.

comparing: compare_representations
matching: match_images, name_files, require_several
described: trained_on
groups: find_shared_groups
joining: JoinedFeatures, join_features
Within the room: agreeing, combining
"""
