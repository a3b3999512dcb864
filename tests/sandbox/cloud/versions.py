"""Versions of the sandbox's tools: the one place that names them.

What the Pulumi program itself installs on its machines is pinned with the program, and what Python imports is pinned in
`requirements.lock`.
"""

#: The CLI and the SDK in `requirements.lock` go together: change both in one commit.
PULUMI = "3.259.0"

#: Oldest Go that the modules below accept, and the one that is fetched where the machine's own is older or missing.
GO_MINIMUM = (1, 25)
GO = "1.26.6"

#: S3 server behind Spaces. 1.8.0 enforces bucket policies for its own users, which the grants of a Spaces key need.
VERSITYGW = "1.8.0"

#: GitLab package that the stand-in claims to be (Debian version number).
GITLAB = "19.3.0-ce.0"
