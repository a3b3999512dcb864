"""Slipway: GitLab, its registry and everything under them, as one dependency graph."""

from components import settings
from components.exports import export
from components.installation import Installation, Plan
from components.state import DeploymentState

# Everything that can be refused is refused here, in one report and before any resource is registered.
plan = Plan.read(settings.of_stack(), lambda *_: DeploymentState.of_stack())
export(Installation(plan).outputs)
