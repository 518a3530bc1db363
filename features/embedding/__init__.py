"""What is read off a network, and how an image becomes an embedding.

`doctor/` says whether that can be done on this machine, and how fast.

extractor: Extractor, Look, converted_extractor, converted_files, load_extractor, rebuild_extractor
joined: JoinedExtractor, JoinedSpec
recipes: choose_recipe
specification: ExtractorSpec, software_versions
Within the room: views
"""
