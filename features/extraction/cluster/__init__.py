"""The same extraction on the machines of a Ray cluster, a shard at a time.

connection: connected, require_cluster
ownership: owned
run: ClusterOutcome, extract_on_cluster
Within the room: claim, nodes, sizing, word, worker

A row of Ray Data is a shard: names of images go out, and counts come back. What is embedded goes
from the process that made it straight to the folder or address that all machines share.
"""

from features.extraction.cluster.connection import require_cluster
from features.extraction.cluster.run import ClusterOutcome, extract_on_cluster

__all__ = ["ClusterOutcome", "extract_on_cluster", "require_cluster"]
