"""Prints the credential of a cluster of DigitalOcean Kubernetes, as Kubernetes' clients ask a program for it.

The provider runs it when it connects, so no credential is in the state, and none there can expire. Input: the ID of the
cluster as an argument; DIGITALOCEAN_TOKEN or DIGITALOCEAN_ACCESS_TOKEN, and DIGITALOCEAN_API_URL if it is another one.
"""

import json
import os
import sys
import urllib.error
import urllib.request

#: How long the credential is valid: longer than any update takes.
SECONDS = 4 * 3600


def main() -> None:
    """Ask DigitalOcean, and print."""
    cluster = sys.argv[1]
    api = os.environ.get("DIGITALOCEAN_API_URL") or "https://api.digitalocean.com"
    token = os.environ.get("DIGITALOCEAN_TOKEN") or os.environ.get("DIGITALOCEAN_ACCESS_TOKEN", "")
    url = f"{api.rstrip('/')}/v2/kubernetes/clusters/{cluster}/credentials?expiry_seconds={SECONDS}"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=60) as response:  # noqa: S310
            found = json.load(response)
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")[:300]
        sys.exit(f"DigitalOcean refuses the credentials of the cluster {cluster}: {error.code} {reason}")
    except OSError as error:
        sys.exit(f"DigitalOcean does not answer the request for the credentials of the cluster {cluster}: {error}")
    status = {"token": found["token"], "expirationTimestamp": found["expires_at"]}
    json.dump({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}, sys.stdout)


if __name__ == "__main__":
    main()
