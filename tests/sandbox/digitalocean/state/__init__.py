"""The state of the emulated account, and its rules.

`store.Store` keeps records, `cloud.Cloud` is one account in it, `work` carries out actions, and `backend.Backend` is
the interface to the machines. Knows nothing of HTTP: `routes` and the other services are built on it.
"""
