"""Serves the policies to Pulumi's engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pulumi
from pulumi_policy import PolicyPack

# Pulumi runs this folder by its path.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from policies import pack

PolicyPack(name="slipway", policies=pack.policies(), enforcement_level=pack.enforcement_level(pulumi.get_stack()))
