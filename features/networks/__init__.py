"""The frozen networks, and the engines that run them.

`devices/` holds what suits a device: Keras on GPUs, number formats, batches in flight.

converted: PARAMETERS, converted_network, find_converted
engines: Engine, Plan, has_openvino, load_converted, load_engine, plan_engine
libraries: import_openvino
registry: DEFAULT_NETWORK, NETWORKS, Network, POOLINGS, RECIPES, Recipe
weights: Source, file_sha256, may_have_seen, resolve_weights
Within the room: keras, openvino, openvino_serving, untrained
"""
