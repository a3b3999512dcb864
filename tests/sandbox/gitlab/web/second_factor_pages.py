"""Pages on which somebody sets up a second factor, or puts it off; in GitLab's words."""

from __future__ import annotations

import time

from starlette.responses import Response

from . import sessions
from .core import second_factor, users
from .page import Page

PATH = "-/profile/two_factor_auth"
REQUIRED = "The global settings require you to enable Two-Factor Authentication for your account."


def is_due(page: Page) -> bool:
    """Whether the visitor has to set one up before anything else."""
    who = page.session.who
    if who is None or page.session.skips_until > time.time():
        return False
    return second_factor.is_required(page.connection, who.user)


def set_up(page: Page) -> Response:
    """Show the secret for an authenticator."""
    return _page(page)


def _page(page: Page, status: int = 200, refusal: str = "") -> Response:
    identity = page.user().user["id"]
    secret = second_factor.ask(page.connection, page.config, users.get(page.connection, identity))
    user = users.get(page.connection, identity)
    required, late = second_factor.is_required(page.connection, user), second_factor.is_late(page.connection, user)
    end = second_factor.deadline(page.connection, user)
    notice = REQUIRED if required else ""
    if required and not late and end is not None:
        notice += f" You need to do this before {end:%B %d, %Y %H:%M}."
    return page.render(
        "two_factor_set_up.html",
        status,
        secret=None if user["otp_required_for_login"] else secret,
        notice=notice,
        refusal=refusal,
        may_skip=required and not late,
        has_password=not user["password_automatically_set"],
    )


def turn_on(page: Page) -> Response:
    """Take a code of the authenticator, and the password, as proof."""
    user = users.get(page.connection, page.user().user["id"])
    given = page.form.get("current_password", "")
    if not user["password_automatically_set"] and not sessions.by_password(page.connection, user["username"], given):
        return _page(page, 422, "You must provide a valid current password.")
    if not second_factor.accept(page.connection, page.config, user, page.form.get("pin_code", "")):
        return _page(page, 422, "Invalid pin code.")
    second_factor.turn_on(page.connection, user)
    return page.back("")


def skip(page: Page) -> Response:
    """Put it off until the grace period ends."""
    user = users.get(page.connection, page.user().user["id"])
    end = second_factor.deadline(page.connection, user)
    if end is None or second_factor.is_late(page.connection, user):
        return _page(page, 422, "Cannot skip two factor authentication setup")
    answer = page.back("")
    cookie = sessions.cookie_of(page.connection, page.config, user, end.timestamp())
    sessions.set_cookie(page.connection, answer, page.config, cookie)
    return answer
