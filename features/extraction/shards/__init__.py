"""Shards: a data set in parts, each of which is extracted on its own and becomes a feature file.

planning: Shard, into_shards, number_of_shards, state_of_file
running: ShardBusy, ShardResult, is_done, publish, require_same_options, run_shard
cloud: OF_RUNS, CloudShards, state_for
local: FolderShards, ShardPlace, require_nothing_lost_from, run_shards
place: place_for_process, place_for_shards
"""

from features.extraction.shards.planning import Shard, into_shards
from features.extraction.shards.running import ShardResult, is_done, publish, run_shard

__all__ = ["Shard", "ShardResult", "into_shards", "is_done", "publish", "run_shard"]
