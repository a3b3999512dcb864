"""Events that other parts subscribe to: pushes that were accepted, by git or by the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import db
from .config import Config

#: The commit before the first one of a ref, and after the last.
NO_COMMIT = "0" * 40


@dataclass(frozen=True)
class Push:
    """One ref that moved. `ref` is whole, such as `refs/heads/main`; a side without a commit is `NO_COMMIT`."""

    project_id: int
    ref: str
    before: str
    after: str
    user_id: int
    #: Of `git push --push-option`, such as `ci.skip` or `ci.variable=NAME=value`.
    options: tuple[str, ...] = ()
    #: By a running job: it starts no pipeline.
    by_job: bool = False

    @property
    def removed(self) -> bool:
        """Whether the ref is gone."""
        return self.after == NO_COMMIT


Handler = Callable[[db.Connection, Config, Push], None]
_handlers: list[Handler] = []


def on_push(handler: Handler) -> Handler:
    """Call a function after every accepted push, in the transaction that records it. Usable as a decorator."""
    if handler not in _handlers:
        _handlers.append(handler)
    return handler


def forget(handler: Handler) -> None:
    """Do not call a function any more."""
    _handlers.remove(handler)


def push_accepted(connection: db.Connection, config: Config, push: Push) -> None:
    """Tell all. When one fails, the push stays, and the failure is the caller's."""
    for handler in _handlers:
        handler(connection, config, push)
