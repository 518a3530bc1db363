"""What this machine has, what it lacks, and how fast images go through it: `doctor`.

command: doctor
findings: Finding
machine: cores, disk_free, memory_free
Within the room: checkup, stages
"""
