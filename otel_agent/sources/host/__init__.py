"""The machine itself: processors, memory, disks, filesystems, network, processes, pressure and temperatures."""
