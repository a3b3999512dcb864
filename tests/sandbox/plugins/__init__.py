"""The sandbox's own Pulumi plugins: a language host for Python and providers of just the types that are needed.

They stand in for the official plugins where those cannot be downloaded. Everything outside their small set of types,
properties and functions is refused, never ignored.
"""
