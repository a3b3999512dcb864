"""Kubernetes clusters of the emulated account: certificates, what machines are told at their first boot, scaling."""
