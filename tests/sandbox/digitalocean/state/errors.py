# ruff: noqa: N818 - the classes are named after the ids that the API uses
"""Errors of the API, one class each.

ApiError
├── BadRequest 400 ── CannotMixFullAccess
├── Unauthorized 401
├── Forbidden 403 ── DefaultVpcStays, VpcHasMembers
├── NotFound 404 ── ClusterNotFound
├── MethodNotAllowed 405
├── Conflict 409 ── VolumeAttached, VolumeNameTaken
├── PreconditionFailed 412 ── ProjectHasResources, ReservedIpFollowsDroplet
├── Unprocessable 422 ── PendingEvent, SshKeyInUse, DropletLimit, NeedsDot, …
├── TooManyRequests 429
├── ServerError 500
└── Gap 501: the real API has it, or may have it; the emulator does not
"""

from __future__ import annotations

from typing import ClassVar


class ApiError(Exception):
    """An answer other than success, in the API's shape: `id` names the kind, `message` says what is wrong."""

    status: ClassVar[int]
    id: ClassVar[str]
    text: ClassVar[str]

    def __init__(self, message: str | None = None) -> None:
        self.message = message if message is not None else self.text
        super().__init__(self.message)


class BadRequest(ApiError):
    """The body cannot be read."""

    status = 400
    id = "bad_request"
    text = "error parsing request body"


class CannotMixFullAccess(BadRequest):
    """A Spaces key has either full access or grants by bucket."""

    text = "cannot mix fullaccess permission with scoped permissions."


class Unauthorized(ApiError):
    """No token, or one that is not valid."""

    status = 401
    id = "unauthorized"
    text = "Unable to authenticate you"


class Forbidden(ApiError):
    """Understood and refused."""

    status = 403
    id = "forbidden"
    text = "You do not have permission to perform this action."


class DefaultVpcStays(Forbidden):
    """The default VPC of a region cannot be deleted."""

    text = "Can not delete default VPCs"


class VpcHasMembers(Forbidden):
    """Only an empty VPC can be deleted."""

    text = "Can not delete VPC with members"


class NotFound(ApiError):
    """No such thing."""

    status = 404
    id = "not_found"
    text = "The resource you were accessing could not be found."


class ClusterNotFound(NotFound):
    """No such database cluster, or one that is still being created."""

    text = "cluster not found"


class MethodNotAllowed(ApiError):
    """The path exists, but not with this method."""

    status = 405
    id = "method_not_allowed"
    text = "The method is not allowed for the requested URL."


class Conflict(ApiError):
    """The state of the resource forbids it."""

    status = 409
    id = "conflict"
    text = "The request could not be completed due to a conflict."


class VolumeAttached(Conflict):
    """An attached volume cannot be deleted."""

    text = "A volume that's attached to a Droplet cannot be deleted. Please detach it first."


class VolumeNameTaken(Conflict):
    """Names of volumes are unique in a region."""

    text = "already exists"


class PreconditionFailed(ApiError):
    """Something must happen first."""

    status = 412
    id = "precondition_failed"
    text = "precondition failed"


class ProjectHasResources(PreconditionFailed):
    """Only an empty project can be deleted."""

    text = "cannot delete a project with resources. move or remove the resources first"


class ReservedIpFollowsDroplet(PreconditionFailed):
    """An assigned address is in the project of its droplet."""

    text = "Cannot move a Reserved IP with an associated Droplet to a different Project"


class Unprocessable(ApiError):
    """Well formed, but not possible."""

    status = 422
    id = "unprocessable_entity"
    text = "request payload validation failed"


class PendingEvent(Unprocessable):
    """A droplet does one thing at a time."""

    text = "Droplet already has a pending event."


class SshKeyInUse(Unprocessable):
    """The same public key is in the account already."""

    text = "SSH Key is already in use on your account"


class SshKeyInvalid(Unprocessable):
    """Not a public key in OpenSSH's format."""

    text = "Key invalid, key should be of the format `type key [comment]`"


class InvalidHostname(Unprocessable):
    """Names of droplets are host names."""

    text = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"


class DropletLimit(Unprocessable):
    """The account has as many droplets as it may have."""

    text = "creating this/these droplet(s) will exceed your droplet limit"


class VolumeLimit(ApiError):
    """The account has as many volumes as it may have. The status is known, the words are not."""

    status = 403
    id = "forbidden"
    text = "creating this volume will exceed your volume limit"


class SizeNotInRegion(Unprocessable):
    """The size exists, elsewhere."""

    text = "Size is not available in this region."


class RegionUnavailable(Unprocessable):
    """The region takes no new resources."""

    text = "Region is not available"


class AttachmentNotFound(Unprocessable):
    """The volume is not attached to that droplet."""

    text = "Attachment not found"


class NeedsDot(Unprocessable):
    """Host names in record data are written as fully qualified names."""

    text = "Data needs to end with a dot (.)"


class VpcRangeOverlaps(Unprocessable):
    """Ranges of VPCs are disjoint."""

    text = "This range/size overlaps with another VPC network in your account."


class InvalidCluster(Unprocessable):
    """A cluster or one of its node pools cannot be like this. What is wrong stands behind two words of the API."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(f"validation error: {message}" if message else None)


class TooManyRequests(ApiError):
    """More requests in an hour than the account may make."""

    status = 429
    id = "too_many_requests"
    text = "API Rate limit exceeded."


class ServerError(ApiError):
    """The machinery behind the API failed."""

    status = 500
    id = "server_error"
    text = "Unexpected server-side error"


class Gap(ApiError):
    """The emulator lacks this; the control interface lists what was asked for."""

    status = 501
    id = "not_implemented"
    text = "The emulated API does not have this."
