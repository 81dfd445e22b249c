"""Processes of the host: the busiest, the largest, and those on a GPU."""
