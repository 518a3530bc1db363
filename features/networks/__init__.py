"""The frozen networks, and the engines that run them.

converted: PARAMETERS, converted_network
engines: Engine, Plan, has_openvino, load_converted, load_engine, plan_engine
registry: DEFAULT_NETWORK, NETWORKS, Network, POOLINGS, RECIPES, Recipe
weights: Source, file_sha256, resolve_weights
Within the room: int8, keras, openvino, openvino_serving, untrained
"""
