"""The components of an installation: one per module, next to the dataclass of its inputs."""
