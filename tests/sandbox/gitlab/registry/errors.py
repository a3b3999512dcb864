"""Errors, as the registry words them."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

_KNOWN = {
    "BLOB_UNKNOWN": (404, "blob unknown to registry"),
    "DIGEST_INVALID": (400, "provided digest did not match uploaded content"),
    "INVALID_JSON_BODY": (400, "the body of the request is an invalid JSON"),
    "INVALID_QUERY_PARAMETER_VALUE": (400, "the value of a query parameter is invalid"),
    "INVALID_TAG_PROTECTION_PATTERN": (400, "invalid tag protection pattern"),
    "MANIFEST_BLOB_UNKNOWN": (400, "blob unknown to registry"),
    "MANIFEST_INVALID": (400, "manifest invalid"),
    "MANIFEST_REFERENCED": (409, "manifest referenced by a manifest list"),
    "MANIFEST_UNKNOWN": (404, "manifest unknown"),
    "MISMATCH_PROJECT_PATH_CLAIM": (
        400,
        "the value of meta.project_path token claim is not assigned to the repository that operation is attempting "
        "to rename",
    ),
    "NAME_INVALID": (400, "invalid repository name"),
    "NAME_UNKNOWN": (404, "repository name not known to registry"),
    "PROTECTED_MANIFEST": (401, "insufficient permissions to delete protected manifest"),
    "PROTECTED_TAG": (401, "insufficient permissions to push or delete protected tag"),
    "RENAME_CONFLICT": (409, "the base repository name is already taken"),
    "TAG_INVALID": (400, "manifest tag did not match URI"),
    "TAG_PATTERN_COUNT": (400, "tag pattern count exceeds limit"),
    "UNSUPPORTED": (405, "The operation is unsupported."),
}


def error(code: str, *details: object, message: str = "") -> Response:
    """The answer to a request that fails; several details are several errors of one kind."""
    status, words = _KNOWN[code]
    found = [{"code": code, "message": message or words, "detail": detail} for detail in details or (None,)]
    return JSONResponse({"errors": found}, status)
