"""The settings about what an image carries to its users: a scan, a bill of materials, a signature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, field_validator

from components.settings.section import PROMOTED, Contradiction, Section, refuse_repeats
from components.settings.strings import matching


def _off(value: Any) -> Any:
    """YAML 1.1 reads `off` as false, and some tools still do."""
    return "off" if value is False else value


#: What a finding does to a pipeline.
Scan = Annotated[Literal["off", "warn", "block"], BeforeValidator(_off)]
#: As Trivy calls them.
Severity = Literal["UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
#: A host with a port, or a path below one, as in the names of images.
Databases = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{1,200}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+",
            "is not a path in a registry; no database could be downloaded, and every scan would fail. Use one such as "
            "registry.example.com/mirror, which has trivy-db and trivy-java-db below it",
        )
    ),
]
_DEFAULT_SEVERITY: Final = ("HIGH", "CRITICAL")


def _different(value: tuple[Severity, ...] | None) -> tuple[Severity, ...] | None:
    if value == ():
        message = "is empty; nothing would be found. Name at least one, such as CRITICAL, or set scan to off"
        raise ValueError(message)
    refuse_repeats(value or ())
    return value


class ProjectSupplyChain(Section):
    """What one project does differently from the stack's `supplyChain`."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    scan: Scan | None = Field(
        default=None,
        description="What known vulnerabilities in its images do: `off`, `warn` or `block`.",
        json_schema_extra={"unset": "as the stack's"},
    )
    severity: tuple[Severity, ...] | None = Field(
        default=None,
        description="The severities that count.",
        examples=[["CRITICAL"]],
        json_schema_extra={"unset": "as the stack's"},
    )
    ignore_unfixed: bool | None = Field(
        default=None,
        description="Whether vulnerabilities that have no fix yet are left out.",
        json_schema_extra={"unset": "as the stack's"},
    )
    sbom: bool | None = Field(
        default=None,
        description="Whether the pipeline writes a bill of materials for each image.",
        json_schema_extra={"unset": "as the stack's"},
    )
    sign: bool | None = Field(
        default=None,
        description="Whether released images are signed.",
        json_schema_extra={"unset": "as the stack's"},
    )

    @field_validator("severity")
    @classmethod
    def _are_severities(cls, value: tuple[Severity, ...] | None) -> tuple[Severity, ...] | None:
        return _different(value)

    def contradictions(self) -> Iterator[Contradiction]:
        """Conditions of a scan that does not take place."""
        if self.scan == "off" and (self.severity is not None or self.ignore_unfixed is not None):
            message = (
                "has severity or ignoreUnfixed, but scan is off; they would be ignored. Remove them, or set scan to "
                "warn or block"
            )
            yield Contradiction(("scan",), message)


class SupplyChain(Section):
    """What the stack's pipeline checks about images before their release, and what it attaches to them."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    scan: Scan = Field(
        default="off",
        description="What known vulnerabilities in an image do: `off` looks for none; `warn` marks the pipeline with a "
        "warning; `block` fails it, so that nothing is released.",
    )
    severity: tuple[Severity, ...] = Field(
        default=_DEFAULT_SEVERITY, description="The severities that count, as Trivy names them."
    )
    ignore_unfixed: bool = Field(
        default=True,
        description="Whether vulnerabilities that have no fix yet are left out: no update of the image could remove "
        "them.",
    )
    databases: Databases | None = Field(
        default=None,
        description="A path in a registry below which `trivy-db:2` and `trivy-java-db:1` are, such as a mirror of your "
        "own. A private one takes its login from the CI/CD variable `DOCKER_AUTH_CONFIG`.",
        examples=["registry.example.com/mirror"],
        json_schema_extra={"unset": "Trivy's own, at two public registries"},
    )
    sbom: bool = Field(
        default=False,
        description="Whether the pipeline writes a bill of materials (CycloneDX) for each image, as an artifact.",
    )
    sign: bool = Field(
        default=False,
        description="Whether released images are signed, with a key that the stack creates. With `sbom`, the bill of "
        "materials is attached to the image as a signed attestation.",
    )

    @field_validator("severity")
    @classmethod
    def _are_severities(cls, value: tuple[Severity, ...]) -> tuple[Severity, ...]:
        return _different(value) or value

    def of(self, project: ProjectSupplyChain | None) -> SupplyChain:
        """Return what holds for a project: its own values, and these where it has none."""
        own = project.model_dump(exclude_none=True) if project else {}
        return self.model_copy(update=own)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the stages and jobs that these settings add to a pipeline."""
        wanted = {"scan": self.scan != "off", "sbom": self.sbom, "sign": self.sign}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)
