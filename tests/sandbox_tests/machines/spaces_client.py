"""A client of object storage, run by tests on the workstation: calls from standard input, outcomes to standard output.

Input: JSON with `endpoint`, `region`, `trust`, `key`, `secret`, `style` and `calls`, a list of method name and
arguments. Output: JSON list of `ok`, the value that was asked for, or the error's code.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import botocore.exceptions
from botocore.config import Config


def _outcome(client: Any, method: str, arguments: dict[str, Any]) -> Any:
    try:
        answer = getattr(client, method)(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    match method:
        case "list_buckets":
            return sorted(bucket["Name"] for bucket in answer["Buckets"])
        case "list_objects_v2":
            return [entry["Key"] for entry in answer.get("Contents", [])]
        case "get_object":
            return answer["Body"].read().decode()
        case "get_bucket_lifecycle_configuration":
            return answer["Rules"]
        case _:
            return "ok"


def main() -> None:
    """Answer one request."""
    asked = json.load(sys.stdin)
    config = Config(s3={"addressing_style": asked["style"]}, proxies={}, retries={"total_max_attempts": 1})
    client = boto3.client(
        "s3",
        endpoint_url=asked["endpoint"],
        region_name=asked["region"],
        verify=asked["trust"],
        aws_access_key_id=asked["key"],
        aws_secret_access_key=asked["secret"],
        config=config,
    )
    print(json.dumps([_outcome(client, method, arguments) for method, arguments in asked["calls"]]))


if __name__ == "__main__":
    main()
