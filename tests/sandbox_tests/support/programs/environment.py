"""A program that says which environment it runs in."""

import os
import sys

print(f"running in {sys.prefix}")
print(f"VIRTUAL_ENV={os.environ['VIRTUAL_ENV']}")
