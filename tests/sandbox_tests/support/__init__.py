"""Harness of the sandbox's tests: emulated services on loopback, clients, and the real Pulumi engine. Has no tests."""
