"""The components of an installation: one noun a module, each with its inputs beside it."""
