"""Slipway: GitLab, its registry and everything under them, as one dependency graph."""

import gc

# Loading the SDKs makes hundreds of thousands of objects, which all stay. Looking for garbage among them, now and
# later, takes a quarter of the time.
gc.disable()

# ruff: noqa: E402
from components import settings
from components.exports import export
from components.installation import Installation, Plan
from components.state import DeploymentState

gc.freeze()
gc.enable()

# Everything that can be refused is refused here, in one report and before any resource is registered.
plan = Plan.read(settings.of_stack(), lambda *_: DeploymentState.of_stack())
export(Installation(plan).outputs)
