"""The stand-in for DigitalOcean's metrics agent: the package `do-agent`, which machines install from its archive."""
