"""Containers of the Docker Engine: who they are from the engine, what they use from their cgroup files."""
