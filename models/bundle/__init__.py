"""What is served: written, verified and read.

fetching: BundlePlace, fetch_bundle
gallery: Gallery, Similar
known_settings: read_settings
loading: Bundle, load_bundle
manifest: BundleRefused
network: ReadyNetwork, ready_network
saving: BundleOptions, find_each_weights, find_weights, save_bundle
staging: require_free
Within the room: classes, familiarity, fusion
"""
