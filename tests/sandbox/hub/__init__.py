"""Docker Hub of a sandbox: a few official images, built here, and the registry that serves them."""
