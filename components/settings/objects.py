"""Where GitLab keeps its files: artifacts, attachments, packages and the like."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import ConfigDict, Field

from components.settings.section import ENVIRONMENT, Contradiction, Section
from components.settings.strings import Region


class FileStorage(StrEnum):
    """Where GitLab keeps its files."""

    FILESYSTEM = "filesystem"
    SPACES = "spaces"


class Files(Section):
    """GitLab's files beside the repositories, and where they are kept."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    storage: FileStorage = Field(
        default=FileStorage.FILESYSTEM,
        description="Where GitLab keeps artifacts, logs of jobs, LFS objects, attachments, packages, the dependency "
        "proxy's files, Terraform states and secure files: `spaces` creates a Space for each of these, `filesystem` "
        "uses the data volume. A change moves the files.",
    )
    spaces_region: Region | None = Field(
        default=None,
        description="The region of these Spaces. Set it if `region` offers no Spaces.",
        examples=["nyc3"],
        json_schema_extra={"unset": "the value of `region`"},
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """A region for Spaces that are not there."""
        if self.storage is not FileStorage.SPACES and self.spaces_region is not None:
            yield Contradiction(
                ("storage", "spacesRegion"),
                f"has spacesRegion, but storage is {self.storage}; it would be ignored. "
                "Set storage to spaces, or remove it",
            )
