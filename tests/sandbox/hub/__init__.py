"""Docker Hub for a sandbox: a few official images, made here, and the registry that hands them out."""
