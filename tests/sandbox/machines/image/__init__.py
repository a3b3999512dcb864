"""The root file system of machines: built, cached, and loaded into the machine engine."""
