"""Encryption of values that must be readable again, so that the database alone does not reveal them."""

from __future__ import annotations

import base64
import hashlib

from cryptography.fernet import Fernet

from .config import Config


def seal(config: Config, text: str) -> str:
    """Encrypt a text for the database."""
    return _box(config).encrypt(text.encode()).decode()


def unseal(config: Config, sealed: str) -> str:
    """Decrypt a text of the database. Raises `InvalidToken` when the secrets of the instance are other ones."""
    return _box(config).decrypt(sealed.encode()).decode()


def _box(config: Config) -> Fernet:
    key = hashlib.sha256(b"column:" + config.db_key_base.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))
