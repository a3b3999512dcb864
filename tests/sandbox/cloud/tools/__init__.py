"""The tools of the sandbox: each found, downloaded or built once, and kept in the cache."""
