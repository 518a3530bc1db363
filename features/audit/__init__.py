"""What is wrong with the images: copies, leaks, contradictions, oddities, shortcuts.

groups: find_groups
Within the room: alignment, approximate, command, confounders, findings, page, pictures,
similarity, text
"""
