"""Squares resampled from a picture: by Pillow, or to the very same bytes by compiled code.

compiled: Kernels, NotCompiled, kernels, load_kernels, packed
squares: Source, Square
Within the room: kernels (what is compiled)
"""
