"""Spaces buckets and their objects, over S3."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tests.sandbox.plugins.base.framework import (
    Call,
    Failure,
    Field,
    Fields,
    Kind,
    PluginError,
    Resource,
    made,
)
from tests.sandbox.plugins.base.properties import Properties
from tests.sandbox.plugins.digitalocean.session import session_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_T = TypeVar("_T")

_ACLS = ("private", "public-read")
_CORS = {
    "allowedHeaders": ("AllowedHeaders", Field(Kind.LIST, items=Kind.STRING)),
    "allowedMethods": ("AllowedMethods", Field(Kind.LIST, items=Kind.STRING, required=True)),
    "allowedOrigins": ("AllowedOrigins", Field(Kind.LIST, items=Kind.STRING, required=True)),
    "maxAgeSeconds": ("MaxAgeSeconds", Field(Kind.INTEGER)),
}
_EXPIRATION = {
    "date": ("Date", Field()),
    "days": ("Days", Field(Kind.INTEGER)),
    "expiredObjectDeleteMarker": ("ExpiredObjectDeleteMarker", Field(Kind.BOOLEAN)),
}
_LIFECYCLE = {
    "id": Field(computed=True),
    "prefix": Field(),
    "enabled": Field(Kind.BOOLEAN, required=True),
    "abortIncompleteMultipartUploadDays": Field(Kind.INTEGER),
    "expiration": Field(Kind.MAP, fields={name: spec for name, (_, spec) in _EXPIRATION.items()}),
    "noncurrentVersionExpiration": Field(Kind.MAP, fields={"days": Field(Kind.INTEGER)}),
}


def _asking(what: str, ask: Callable[[], _T], absent: Iterable[str] = ()) -> _T | None:
    """The answer of Spaces; None if its error is one of those that say that there is nothing.

    Raises:
        PluginError: any other error.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - slow to import

    try:
        return ask()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in absent:
            return None
        raise SpacesError(what, code, str(error)) from error
    except BotoCoreError as error:
        raise PluginError(f"{what}: {error}") from error


class SpacesError(PluginError):
    """Spaces answered with an error; `code` is the one of S3."""

    def __init__(self, what: str, code: str, message: str) -> None:
        super().__init__(f"{what}: {message}")
        self.code = code


def _rule_id(rule: Properties, place: int) -> str:
    return rule.get("id") or f"rule-{place}"


def _without_ids(rules: Any) -> Any:
    """Rules that the program gave no ID have one at the other side."""
    return [{name: value for name, value in rule.items() if name != "id"} for rule in rules]


class SpacesBucket(Resource):
    """A bucket. `forceDestroy` deletes what is in it too."""

    full_name = "digitalocean:index/spacesBucket:SpacesBucket"
    autoname = True
    inputs: ClassVar[Fields] = {
        "name": Field(),
        "region": Field(default="nyc3", replace=True),
        "acl": Field(default="private", choices=_ACLS),
        "forceDestroy": Field(Kind.BOOLEAN, default=False),
        "corsRules": Field(Kind.LIST, fields={name: spec for name, (_, spec) in _CORS.items()}),
        "lifecycleRules": Field(Kind.LIST, fields=_LIFECYCLE, normal=_without_ids),
        "versioning": Field(Kind.MAP, computed=True, fields={"enabled": Field(Kind.BOOLEAN)}),
    }
    outputs = ("bucketDomainName", "bucketUrn", "endpoint")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        client, name = session_of(call).spaces(inputs["region"]), inputs["name"]
        _asking(f"creating bucket {name}", lambda: client.create_bucket(Bucket=name, ACL=inputs["acl"]))
        outputs = self._names(name, inputs["region"])
        # Without the sub-resources, so that the next update sets them.
        with made(name, {key: value for key, value in inputs.items() if key not in _SUBRESOURCES} | outputs):
            call.wait_until(f"bucket {name}", lambda: _bucket_exists(client, name), timeout=300)
            _put_acl(client, name, inputs["acl"])
            self._apply(client, name, {}, inputs)
        return name, outputs

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        region, name = state.get("region"), identifier
        if region is None:
            region, _, name = identifier.partition(",")
            if not name:
                raise PluginError("the ID to import must be <region>,<name>")
        client = session_of(call).spaces(region)
        if not _bucket_exists(client, name):
            return None
        observed = {**self._names(name, region), **_versioning(client, name), **_lifecycle(client, name)}
        if state.get("corsRules"):
            observed["corsRules"] = _cors(client, name)
        # The official plugin does not ask for the ACL: after an import, the next update sets it.
        return name, observed

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        if inputs["name"] != identifier:
            # The official plugin takes this for an update too, and then looks for the new name in vain.
            raise PluginError(f"a bucket cannot be renamed ({identifier} to {inputs['name']}): make a new one")
        client = session_of(call).spaces(inputs["region"])
        if old.get("acl") != inputs["acl"]:
            _put_acl(client, identifier, inputs["acl"])
        self._apply(client, identifier, old, inputs)
        return self._names(identifier, inputs["region"])

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        client = session_of(call).spaces(state["region"])

        def gone() -> bool:
            try:
                _asking(f"deleting bucket {identifier}", lambda: client.delete_bucket(Bucket=identifier))
            except SpacesError as error:
                if error.code == "BucketNotEmpty" and state.get("forceDestroy"):
                    _empty(client, identifier)
                    return False
                raise
            return True

        call.wait_until(f"bucket {identifier} to be empty", gone)

    def _names(self, name: str, region: str) -> Properties:
        endpoint = f"{region}.digitaloceanspaces.com"
        return {
            "name": name,
            "region": region,
            "bucketUrn": f"do:space:{name}",
            "endpoint": endpoint,
            "bucketDomainName": f"{name}.{endpoint}",
        }

    def _apply(self, client: S3Client, name: str, old: Properties, new: Properties) -> None:
        """Set the sub-resources that differ."""
        for key, put in _SUBRESOURCES.items():
            value = new.get(key)
            if bool(value) != bool(old.get(key)) or (value and not self.inputs[key].same(old.get(key), value)):
                _asking(f"{key} of bucket {name}", lambda put=put, value=value: put(client, name, value))  # type: ignore[misc]


def _bucket_exists(client: S3Client, name: str) -> bool:
    return _asking(f"bucket {name}", lambda: client.head_bucket(Bucket=name), ("404", "NoSuchBucket")) is not None


def _put_acl(client: S3Client, name: str, acl: Any) -> None:
    _asking(f"acl of bucket {name}", lambda: client.put_bucket_acl(Bucket=name, ACL=acl))


def _put_cors(client: S3Client, name: str, rules: Any) -> Any:
    if not rules:
        return client.delete_bucket_cors(Bucket=name)
    body = [{s3: rule[key] for key, (s3, _) in _CORS.items() if rule.get(key) is not None} for rule in rules]
    return client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": body})  # type: ignore[typeddict-item]


def _cors(client: S3Client, name: str) -> list[Properties]:
    found: Any = _asking(
        f"corsRules of bucket {name}", lambda: client.get_bucket_cors(Bucket=name), ("NoSuchCORSConfiguration",)
    )
    rules = (found or {}).get("CORSRules", [])
    return [{key: rule[s3] for key, (s3, _) in _CORS.items() if rule.get(s3) is not None} for rule in rules]


def _put_versioning(client: S3Client, name: str, versioning: Any) -> Any:
    status = "Enabled" if versioning and versioning.get("enabled") else "Suspended"
    return client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": status})  # type: ignore[typeddict-item]


def _versioning(client: S3Client, name: str) -> Properties:
    found: Any = _asking(
        f"versioning of bucket {name}",
        lambda: client.get_bucket_versioning(Bucket=name),
        ("VersioningNotConfigured", "NotImplemented"),
    )
    status = (found or {}).get("Status")
    return {"versioning": {"enabled": status == "Enabled"}} if status else {}


def _put_lifecycle(client: S3Client, name: str, rules: Any) -> Any:
    if not rules:
        return client.delete_bucket_lifecycle(Bucket=name)
    body = [_lifecycle_body(rule, place) for place, rule in enumerate(rules)]
    return client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": body})  # type: ignore[typeddict-item]


def _lifecycle_body(rule: Properties, place: int) -> Properties:
    body: Properties = {
        "ID": _rule_id(rule, place),
        "Filter": {"Prefix": rule.get("prefix", "")},
        "Status": "Enabled" if rule["enabled"] else "Disabled",
    }
    if days := rule.get("abortIncompleteMultipartUploadDays"):
        body["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    if expiration := rule.get("expiration"):
        body["Expiration"] = {s3: expiration[key] for key, (s3, _) in _EXPIRATION.items() if key in expiration}
    if expiration := rule.get("noncurrentVersionExpiration"):
        body["NoncurrentVersionExpiration"] = {"NoncurrentDays": expiration["days"]}
    return body


def _lifecycle(client: S3Client, name: str) -> Properties:
    found: Any = _asking(
        f"lifecycleRules of bucket {name}",
        lambda: client.get_bucket_lifecycle_configuration(Bucket=name),
        ("NoSuchLifecycleConfiguration", "NotImplemented"),
    )
    return {} if found is None else {"lifecycleRules": [_lifecycle_state(rule) for rule in found.get("Rules", [])]}


def _lifecycle_state(rule: Any) -> Properties:
    state: Properties = {
        "id": rule.get("ID"),
        "prefix": (rule.get("Filter") or {}).get("Prefix") or rule.get("Prefix"),
        "enabled": rule["Status"] == "Enabled",
        "abortIncompleteMultipartUploadDays": (rule.get("AbortIncompleteMultipartUpload") or {}).get(
            "DaysAfterInitiation"
        ),
    }
    if expiration := rule.get("Expiration"):
        state["expiration"] = {key: expiration[s3] for key, (s3, _) in _EXPIRATION.items() if s3 in expiration}
        if "date" in state["expiration"]:
            state["expiration"]["date"] = state["expiration"]["date"].date().isoformat()
    if expiration := rule.get("NoncurrentVersionExpiration"):
        state["noncurrentVersionExpiration"] = {"days": expiration["NoncurrentDays"]}
    return {name: value for name, value in state.items() if value is not None and value != ""}


def _empty(client: S3Client, name: str) -> None:
    """Delete every version of every object."""

    def delete() -> None:
        for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if found:
                objects: Any = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]
                client.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})

    _asking(f"emptying bucket {name}", delete)


_SUBRESOURCES: dict[str, Callable[[S3Client, str, Any], Any]] = {
    "corsRules": _put_cors,
    "lifecycleRules": _put_lifecycle,
    "versioning": _put_versioning,
}

_HEADERS = {
    "acl": "ACL",
    "cacheControl": "CacheControl",
    "contentDisposition": "ContentDisposition",
    "contentEncoding": "ContentEncoding",
    "contentLanguage": "ContentLanguage",
    "contentType": "ContentType",
    "metadata": "Metadata",
    "websiteRedirect": "WebsiteRedirectLocation",
}


class SpacesBucketObject(Resource):
    """An object of a bucket, from a text, from bytes in base64, or from a file."""

    full_name = "digitalocean:index/spacesBucketObject:SpacesBucketObject"
    inputs: ClassVar[Fields] = {
        "bucket": Field(required=True, replace=True),
        "key": Field(required=True, replace=True),
        "region": Field(required=True, replace=True),
        "acl": Field(default="private", choices=_ACLS),
        "content": Field(),
        "contentBase64": Field(),
        "source": Field(),
        "etag": Field(computed=True),
        "forceDestroy": Field(Kind.BOOLEAN, default=False),
        "cacheControl": Field(),
        "contentDisposition": Field(),
        "contentEncoding": Field(),
        "contentLanguage": Field(),
        "contentType": Field(computed=True),
        "metadata": Field(Kind.MAP, items=Kind.STRING),
        "websiteRedirect": Field(),
    }
    outputs = ("contentType", "etag", "versionId")

    def validate(self, inputs: Properties) -> Iterable[Failure]:
        if len(inputs.keys() & {"content", "contentBase64", "source"}) > 1:
            yield Failure("content", "content, contentBase64 and source exclude each other")

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        self._put(call, inputs)
        return inputs["key"], self._head(call, inputs) or {}

    def read(self, call: Call, identifier: str, state: Properties) -> tuple[str, Properties] | None:
        if not state:
            return super().read(call, identifier, state)
        observed = self._head(call, state)
        return None if observed is None else (identifier, observed)

    def update(self, call: Call, identifier: str, old: Properties, inputs: Properties) -> Properties:
        del identifier
        changed = {name for name, _ in self.differences(old, inputs)} - {"forceDestroy"}
        if changed == {"acl"}:
            client = session_of(call).spaces(inputs["region"])
            bucket, key, acl = inputs["bucket"], inputs["key"], inputs["acl"]
            _asking(f"acl of {bucket}/{key}", lambda: client.put_object_acl(Bucket=bucket, Key=key, ACL=acl))
        elif changed:
            self._put(call, inputs)
        return self._head(call, inputs) or {}

    def delete(self, call: Call, identifier: str, state: Properties) -> None:
        del identifier
        client = session_of(call).spaces(state["region"])
        bucket, key = state["bucket"], state["key"]

        def remove() -> None:
            if not state.get("versionId"):
                client.delete_object(Bucket=bucket, Key=key)
                return
            for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
                for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                    if item["Key"] == key:
                        client.delete_object(Bucket=bucket, Key=key, VersionId=item["VersionId"])

        _asking(f"deleting {bucket}/{key}", remove, ("NoSuchBucket", "NoSuchKey"))

    def _put(self, call: Call, inputs: Properties) -> None:
        body = inputs.get("content", "").encode()
        if "contentBase64" in inputs:
            body = base64.b64decode(inputs["contentBase64"])
        elif "source" in inputs:
            try:
                body = Path(inputs["source"]).expanduser().read_bytes()
            except OSError as error:
                raise PluginError(f"source: {error}") from error
        headers: Any = {s3: inputs[name] for name, s3 in _HEADERS.items() if inputs.get(name) is not None}
        client = session_of(call).spaces(inputs["region"])
        bucket, key = inputs["bucket"], inputs["key"]
        _asking(f"putting {bucket}/{key}", lambda: client.put_object(Bucket=bucket, Key=key, Body=body, **headers))

    def _head(self, call: Call, state: Properties) -> Properties | None:
        client, bucket, key = session_of(call).spaces(state["region"]), state["bucket"], state["key"]
        found: Any = _asking(
            f"{bucket}/{key}", lambda: client.head_object(Bucket=bucket, Key=key), ("404", "NoSuchKey", "NoSuchBucket")
        )
        if found is None:
            return None
        observed = {name: found.get(s3) for name, s3 in _HEADERS.items() if name != "acl"}
        observed |= {"etag": found["ETag"].strip('"'), "versionId": found.get("VersionId") or ""}
        return {name: value for name, value in observed.items() if value is not None}
