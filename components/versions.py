"""Every version that this project pins, each in one place, with the reason if it is held back.

Renovate reads the comments that name a source; `renovate.json` says what it may do with each.

A stack file may name another GitLab version; `components.settings` refuses one that is known to fail.
"""

from __future__ import annotations

from typing import Final

#: The package version of GitLab CE, as apt names it. Newest release whose registry settings are known here.
# renovate: datasource=docker depName=gitlab/gitlab-ce
GITLAB: Final = "19.3.0-ce.0"

#: Oldest release that this project configures. From 19.2.1 on the registry's `checksum_disabled` also covers
#: deletions on object storage that is not Amazon's (registry 4.40.2), and `registry['nginx']` is the key's name.
GITLAB_OLDEST: Final = (19, 2, 1)

#: Upgrades must stop at each of these minor releases (GitLab 19 upgrade notes).
GITLAB_REQUIRED_STOPS: Final = ((18, 8), (18, 11), (19, 2), (19, 5), (19, 8), (19, 11))
GITLAB_LAST_KNOWN_MAJOR: Final = 19

#: Managed databases, by major releases. GitLab 19 needs PostgreSQL 17 (installation requirements), and its package has
#: the tools of that release. A cluster that exists keeps what it has: DigitalOcean upgrades it when its owner asks.
POSTGRESQL: Final = "17"
VALKEY: Final = "8"

#: Fingerprint of the key that signs GitLab's packages, valid until 2028-02-06 (omnibus-gitlab, package signatures).
GITLAB_PACKAGES_KEY: Final = "F6403F6544A38863DAA0B6E03F01618A51312F3F"

#: Long-term support until 2029; the newest Ubuntu that GitLab packages every 19.x release for.
# renovate: datasource=docker depName=ubuntu
SERVER_IMAGE: Final = "ubuntu-24-04-x64"

#: The package version of GitLab Runner, of the same minor release as GitLab.
# renovate: datasource=gitlab-releases depName=gitlab-org/gitlab-runner
GITLAB_RUNNER: Final = "19.3.0-1"

#: Docker in jobs, client and daemon: they have to be of one version. Daemons from 29 on refuse clients before 25.
# renovate: datasource=docker depName=docker
DOCKER: Final = "29.8.1"

#: Buildah in jobs without privileges. `--pull=newer` and an index made by the build itself are known from 1.39 on.
# renovate: datasource=docker depName=quay.io/buildah/stable
BUILDAH_IMAGE: Final = "quay.io/buildah/stable:v1.43.1"

#: The registry that caches Docker Hub on machines of runners. The official image, and not a distribution's package:
#: Docker is there anyway, every machine has the same version, and nothing has to be held back from upgrades.
# renovate: datasource=docker depName=registry
REGISTRY_IMAGE: Final = "registry:3.1.2"

#: Trivy in jobs that scan, from Docker Hub, which the runners' mirror has. Flags are those of this release.
# renovate: datasource=docker depName=aquasec/trivy
TRIVY_IMAGE: Final = "aquasec/trivy:0.74.0"

#: cosign in jobs that sign: the variant with a shell, which GitLab Runner needs. Held below 4, because signatures are
#: of the older format, whose flags 3 deprecates (docs/decisions/0016-signatures-under-a-tag.md).
# renovate: datasource=docker depName=ghcr.io/sigstore/cosign/cosign
COSIGN_IMAGE: Final = "ghcr.io/sigstore/cosign/cosign:v3.1.2-dev"

#: The proxy of environments with `zeroDowntime`: made for this one job, it holds no request back and drops none.
# renovate: datasource=docker depName=basecamp/kamal-proxy
PROXY_IMAGE: Final = "basecamp/kamal-proxy:v0.9.2"

#: Node.js of the sample application: long-term support until 2028.
# renovate: datasource=docker depName=node
NODE: Final = "24"
