"""The image of Kubernetes machines: control planes and workers. Built only for those who ask for Kubernetes."""
