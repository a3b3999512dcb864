"""A program that ends in the way that its configuration says."""

import importlib

import pulumi

way = pulumi.Config().require("way")
print("this is what the program prints")
if way == "user error":
    raise pulumi.RunError("the region is missing: set slipway:region")
if way == "bug":
    raise ValueError("nobody expected this")
if way == "late import":
    # Found only while the program's own folder is where modules are looked for.
    pulumi.Output.from_input("beside").apply(importlib.import_module).apply(lambda found: print(found.WORD))
if way == "bug in apply":
    pulumi.Output.from_input("x").apply(int)
