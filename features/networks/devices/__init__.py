"""What suits a device: Keras on a GPU, what it computes in, how it is kept busy; 8 bits for CPUs.

backends: accelerator, choose_backend, device_memory
exactness: require_arithmetic
in_flight: Slots
int8: quantise
keras_engine: KerasEngine
Within the room: forward
"""
