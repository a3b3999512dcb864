"""Packages must be installed only if a known key has signed them."""

from __future__ import annotations

from typing import Any, Final

from pulumi_policy import ReportViolation, StackValidationArgs, StackValidationPolicy

from policies.reading import section

_UNPINNED: Final = "unpinned"


def check(args: StackValidationArgs, report: ReportViolation) -> None:
    """Look at the fingerprints in the stack file."""
    del args
    packages = (section("gitlab") or {}).get("packages") or {}
    found: dict[str, Any] = {"gitlab.packages.keyFingerprint": packages.get("keyFingerprint")}
    for place, runner in enumerate(section("runners") or ()):
        found[f"runners[{place}].keyFingerprint"] = runner.get("keyFingerprint")
    for path, fingerprint in found.items():
        if fingerprint == _UNPINNED:
            report(
                f"{path} is unpinned: whoever controls the server of the packages, or its key, is root on the machine. "
                "Set it to the fingerprint of the key: gpg --show-keys --with-fingerprint FILE",
                None,
            )


POLICY = StackValidationPolicy(
    name="signing-keys-are-pinned",
    description="The keys that sign packages are pinned.",
    validate=check,
)
