"""Serves the components of this project to programs in any language of Pulumi."""

import sys
from pathlib import Path

# The components are beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pulumi.provider import main

from package.provider import Provider
from package.registry_bucket import RegistryBucket
from package.slipway import Slipway

if __name__ == "__main__":
    main(Provider([RegistryBucket, Slipway], "slipway"), sys.argv[1:])
