"""The framework of the plugins: the provider protocol, resources and their properties, the process of a plugin."""
