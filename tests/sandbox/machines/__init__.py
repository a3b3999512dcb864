"""The real machinery behind the emulated cloud: machines, their network, their disks, and object storage."""
