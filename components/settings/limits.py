"""What GitLab takes of one client at most: requests, pushes, and uploads."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, ConfigDict, Field

from components.settings.section import ENVIRONMENT, Section, whole_number

#: Seconds that requests are counted for.
_PERIOD: Final = 60
_MOST_REQUESTS: Final = 100_000
_MOST_MEGABYTES: Final = 10_240
#: Docker asks for a token before it pulls or pushes, and all jobs of a machine have the address of the machine.
_LEAST_ANONYMOUS: Final = 120
#: An update of a large stack asks as `root`, and a page of GitLab makes up to twenty requests.
_LEAST_OF_A_USER: Final = 600

Anonymous = Annotated[int, Field(ge=_LEAST_ANONYMOUS, le=_MOST_REQUESTS), BeforeValidator(whole_number)]
OfAUser = Annotated[int, Field(ge=_LEAST_OF_A_USER, le=_MOST_REQUESTS), BeforeValidator(whole_number)]
Megabytes = Annotated[int, Field(ge=1, le=_MOST_MEGABYTES), BeforeValidator(whole_number)]


class Limits(Section):
    """Limits of GitLab, which has none for requests and pushes by itself."""

    model_config = ConfigDict(json_schema_extra={**ENVIRONMENT})

    anonymous_requests: Anonymous | None = Field(
        default=None,
        description="How many requests per minute GitLab answers one address that has not signed in, for pages and for "
        "the API each. Logins of Docker count, git and runners do not.",
        json_schema_extra={"unit": "requests per minute", "unset": "no limit"},
    )
    user_requests: OfAUser | None = Field(
        default=None,
        description="How many requests per minute GitLab answers one user, for pages and for the API each. The stack's "
        "own count as those of `root`; runners do not count.",
        json_schema_extra={"unit": "requests per minute", "unset": "no limit"},
    )
    push: Megabytes | None = Field(
        default=None,
        description="The largest push with git.",
        json_schema_extra={"unit": "MB", "unset": "no limit"},
    )
    attachment: Megabytes | None = Field(
        default=None,
        description="The largest file that is attached to an issue or a comment.",
        json_schema_extra={"unit": "MB", "unset": "GitLab's own: 100"},
    )

    @property
    def application_settings(self) -> dict[str, bool | int]:
        """What GitLab keeps of this section in its database, by the names of its API."""
        found: dict[str, bool | int] = {}
        # The first of each pair is for pages. GitLab has kept its name from when there was one for both.
        for names, limit in (
            (("unauthenticated", "unauthenticated_api"), self.anonymous_requests),
            (("authenticated_web", "authenticated_api"), self.user_requests),
        ):
            for name in names if limit else ():
                found[f"throttle_{name}_enabled"] = True
                found[f"throttle_{name}_requests_per_period"] = limit or 0
                found[f"throttle_{name}_period_in_seconds"] = _PERIOD
        if self.push:
            found["receive_max_input_size"] = self.push
        if self.attachment:
            found["max_attachment_size"] = self.attachment
        return found
