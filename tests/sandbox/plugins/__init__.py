"""The sandbox's own Pulumi plugins: a language host for Python, and providers with only the types that are needed.

They stand in for the official plugins, which cannot be had without internet. Types, properties and functions that they
do not support are refused, never ignored.
"""
