"""One policy per module, as its `POLICY`."""
