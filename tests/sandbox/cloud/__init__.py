"""What turns a bare machine into a running sandbox: tools, packages, certificates, namespaces, services."""
