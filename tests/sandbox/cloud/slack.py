"""Slack's incoming webhooks: what is sent to any of them is kept, and shown by the control interface."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.sandbox.digitalocean.models import SlackMessage, now
from tests.sandbox.digitalocean.state.store import Store


def create_slack_app(store: Store) -> Starlette:
    """The webhooks of all teams. Errors are those of api.slack.com/messaging/webhooks."""

    async def take_message(request: Request) -> Response:
        try:
            content = json.loads(await request.body())
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        text = _text(content) if isinstance(content, dict) else None
        if not text:
            return PlainTextResponse("no_text", 400)
        number = store.next_number("slack_message", 1)
        store.put(SlackMessage(id=number, channel=str(content.get("channel", "")), text=str(text), sent_at=now()))
        return PlainTextResponse("ok")

    async def refuse(_: Request) -> Response:
        return PlainTextResponse("no_team", 404)

    return Starlette(
        routes=[
            Route("/services/{team}/{hook}/{secret}", take_message, methods=["POST"]),
            Route("/{path:path}", refuse, methods=["GET", "POST"]),
        ]
    )


def _text(content: dict[str, Any]) -> str | None:
    """What a client shows of a message, or the words that stand for it where attachments cannot be shown."""
    attachments = content.get("attachments")
    if content.get("text") or not isinstance(attachments, list):
        return content.get("text")
    return "\n".join(str(one.get("fallback", "")) for one in attachments if isinstance(one, dict))
