"""Provider `digitalocean`: the resources of the API and of Spaces, one module per family."""
