"""Pages on which people sign in and out: with a password, or by a provider of sign-in."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from . import sessions, single_sign_on
from .core import db, directory, second_factor, settings
from .page import ABSENT, SAFE, Page

#: GitLab's words for a user whom an administrator has not approved yet.
PENDING = (
    "Your account is pending approval from your GitLab administrator and hence blocked. Please contact your GitLab "
    "administrator if you think this is an error."
)


BLOCKED = "Your account has been blocked. Please contact your GitLab administrator."


def sign_in(page: Page) -> Response:
    """Says what this is, and asks who comes."""
    return _sign_in_page(page)


def _sign_in_page(page: Page, status: int = 200, **values: Any) -> Response:
    found = single_sign_on.providers(page.config)
    answer = page.render("sign_in.html", status, providers=found, directory=directory.directory(page.config), **values)
    if found:
        # A browser applies `form-action` to what a form is redirected to as well.
        answer.headers["Content-Security-Policy"] = SAFE["Content-Security-Policy"].partition("; form-action")[0]
    return answer


def to_provider(page: Page) -> Response:
    """Send the visitor to a provider of sign-in."""
    provider = _provider(page)
    try:
        address, cookie = single_sign_on.begin(page.config, provider)
    except single_sign_on.SignInError as refusal:
        return _sign_in_page(page, 422, refusal=str(refusal))
    answer = RedirectResponse(address, 302)
    secure = page.config.external_url.startswith("https:")
    answer.set_cookie(
        single_sign_on.COOKIE,
        cookie,
        max_age=single_sign_on.PATIENCE,
        path="/users/auth",
        secure=secure,
        httponly=True,
        samesite="lax",
    )
    return answer


def from_provider(page: Page) -> Response:
    """Sign in whom the provider names."""
    provider, cookie = _provider(page), page.request.cookies.get(single_sign_on.COOKIE, "")
    query = dict(page.request.query_params)
    try:
        user = single_sign_on.finish(page.connection, page.config, provider, cookie, query)
    except single_sign_on.SignInError as refusal:
        return _sign_in_page(page, 422, refusal=str(refusal))
    if user["state"] != "active":
        return _sign_in_page(page, 403, refusal=PENDING)
    answer = _admit(page, user, 302)
    answer.delete_cookie(single_sign_on.COOKIE, path="/users/auth")
    return answer


def by_directory(page: Page) -> Response:
    """Sign in whom a directory lets in."""
    found = directory.directory(page.config)
    if found is None or found.name != page.request.path_params["provider"]:
        raise HTTPException(ABSENT)
    try:
        user = directory.authenticate(
            page.connection, found, page.form.get("username", ""), page.form.get("password", "")
        )
    except directory.DirectoryError as refusal:
        return _sign_in_page(page, 422, refusal=str(refusal))
    if user["state"] == "blocked":
        return _sign_in_page(page, 422, refusal=BLOCKED)
    if user["state"] != "active":
        return _sign_in_page(page, 403, refusal=PENDING)
    return _admit(page, user, 303)


def _provider(page: Page) -> single_sign_on.Provider:
    name = page.request.path_params["provider"]
    for one in single_sign_on.providers(page.config):
        if one.name == name:
            return one
    raise HTTPException(ABSENT)


def sign_up(page: Page) -> Response:
    """For those who have no account, for as long as they may make one."""
    if not settings.read(page.connection)["signup_enabled"]:
        return RedirectResponse(f"{page.config.external_url}/users/sign_in", 302)
    return page.render("sign_up.html")


def signed_in(page: Page) -> Response:
    """Take name and password, or the code of whoever has given them."""
    if "otp_attempt" in page.form:
        return _code(page)
    user = sessions.by_password(page.connection, page.form.get("login", ""), page.form.get("password", ""))
    return _sign_in_page(page, 422, wrong=True) if user is None else _admit(page, user, 303)


def _admit(page: Page, user: db.Row, status: int) -> Response:
    """Sign in whoever has no second factor, and ask everybody else for its code."""
    if user["otp_required_for_login"]:
        answer = page.render("two_factor.html")
        secure = page.config.external_url.startswith("https:")
        answer.set_cookie(
            sessions.HALF_WAY,
            sessions.half_way(page.config, user),
            max_age=sessions.CODE_PATIENCE,
            path="/users",
            secure=secure,
            httponly=True,
            samesite="lax",
        )
        return answer
    answer = RedirectResponse(f"{page.config.external_url}/", status)
    sessions.set_cookie(page.connection, answer, page.config, sessions.cookie_of(page.connection, page.config, user))
    return answer


def _code(page: Page) -> Response:
    user = sessions.who_is_half_way(page.connection, page.config, page.request)
    if user is None:
        return _sign_in_page(page, 422, wrong=True)
    if not second_factor.accept(page.connection, page.config, user, page.form["otp_attempt"]):
        return page.render("two_factor.html", 422, refusal="Invalid two-factor code.")
    answer = RedirectResponse(f"{page.config.external_url}/", 303)
    sessions.set_cookie(page.connection, answer, page.config, sessions.cookie_of(page.connection, page.config, user))
    answer.delete_cookie(sessions.HALF_WAY, path="/users")
    return answer


def signed_out(page: Page) -> Response:
    """Forget who came."""
    answer = RedirectResponse(f"{page.config.external_url}/users/sign_in", 303)
    sessions.set_cookie(page.connection, answer, page.config, "")
    return answer
