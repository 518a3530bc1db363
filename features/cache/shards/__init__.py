"""A folder of shards, each a feature file with a mark beside it, which is read as one.

marks: Mark, fits, read_if_sound
places: UNFINISHED, file_name, listed, mark_name, require_place_for_shards, shard_name
Within the room: folder
"""
