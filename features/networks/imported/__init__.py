"""Networks that are no part of this program: ONNX files, timm's, Keras models of the user's own.

commands: networks
description: Description
lookup: bundled_network, find_network, known_name, previewed_network
onnx_file: convert_onnx, inspect_onnx
own_model: load_model, read_maps
torch_networks: from_hub
Within the room: onnx_checks, wiring, worker (the process that reads ONNX files),
torch_export (the process that makes them of networks of timm and Hugging Face), torch_loading,
torch_settings
"""
