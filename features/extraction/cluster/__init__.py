"""The same extraction on the machines of a Ray cluster, a shard at a time.

connection: connected
job: Job
ownership: owned
run: ClusterOutcome, extract_on_cluster
Within the room: nodes, sizing, worker

A row of Ray Data is a shard: names of images go out, and counts come back. What is embedded goes
from the process that made it straight to the folder, which all machines share.
"""

from features.extraction.cluster.job import Job
from features.extraction.cluster.run import ClusterOutcome, extract_on_cluster

__all__ = ["ClusterOutcome", "Job", "extract_on_cluster"]
