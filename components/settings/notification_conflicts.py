"""Errors of notifications about pipelines that depend on other sections."""

from __future__ import annotations

from collections.abc import Iterator

from components.settings.stack_file import Settings
from components.settings.validation import Validity


def notification_conflicts(settings: Settings, validity: Validity) -> Iterator[str]:
    """Mail without a mail server, and a project or a section that changes nothing."""
    general = settings.alerts.pipelines
    known = validity.has("alerts")
    wanted = {f"projects[{number}].notify": one.notify for number, one in enumerate(settings.projects)}
    for place, notify in {"alerts.pipelines": general, **wanted}.items():
        if notify is None or not validity.has(place):
            continue
        if notify.email and settings.smtp is None and validity.has("smtp"):
            yield (f"{place}.email: is set, but smtp is not; GitLab could send no mail. Set smtp, or use slack instead")
        if place in wanted and not notify.enabled and known and general is None:
            yield (
                f"{place}: has neither email nor slack, and alerts.pipelines is not set; nobody would be notified. "
                "Add one of them, or remove it"
            )
    if general is not None and known and validity.has("projects") and not settings.projects:
        yield "alerts.pipelines: is set, but there are no projects; nobody would be notified. Add one, or remove it"
