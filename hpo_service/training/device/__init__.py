"""The process and its device: versions, memory in use, threads, and which errors leave it unusable."""
