"""Networks that are no part of this program: ONNX files, and Keras models of the user's own.

commands: networks
description: Description
lookup: bundled_network, find_network, known_name
onnx_file: convert_onnx, inspect_onnx
own_model: load_model, read_maps
Within the room: onnx_checks, wiring, worker (the process that reads ONNX files)
"""
