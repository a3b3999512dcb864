"""The page of a stack in Pulumi Cloud, which is the output `readme`."""

from __future__ import annotations

from typing import Final

from components.rendering import render
from components.settings import Settings, Storage
from components.settings.gitlab_names import ADMINISTRATOR

_IMAGES: Final = {
    Storage.FILESYSTEM: "on the server's volume",
    Storage.S3: "in an S3 bucket of yours",
    Storage.SPACES: "in a Space of the stack",
}


def stack_readme(project: str, stack: str, settings: Settings) -> str:
    """Return the page in Markdown: what the stack is, where to look, and what to type.

    Pulumi Cloud puts the values of outputs where it finds their names, and shows the output called `readme` as the page
    of the stack. Elsewhere, `pulumi stack output readme` prints it with the names.
    """
    backup = settings.backup
    return render(
        "stack-readme.md.j2",
        project=project,
        stack=stack,
        images=_IMAGES[settings.registry.storage],
        backups=f"at {', '.join(backup.times)} UTC" if backup.enabled else "none",
        keep_data=settings.keep_data,
        projects={f"{one.group or ADMINISTRATOR}/{one.path}": list(one.runners) for one in settings.projects},
        runners=settings.runners,
    )
