"""What every plugin is built on: the provider protocol, resources and their properties, the plugin's process."""
