"""What a person reads of a comparison: report, model card, plots, tables.

publishing: publish_bundle
terminal: as_text, as_values, bundle_text, classes_text, comparison_text
Within the room: axes, dermatologists, embedding_map, html, mistakes, model_card, numbers, plots
"""
