"""Turns a bare machine into a running sandbox: packages, certificates, namespaces, services."""
