"""NVIDIA GPUs, read through NVML, the driver's own library."""
