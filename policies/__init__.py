"""Policies that Pulumi checks at preview: `pulumi preview --policy-pack policies`."""
