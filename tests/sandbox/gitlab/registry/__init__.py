"""The container registry of the stand-in: what GitLab's own adds to the Docker distribution, in front of it.

The distribution keeps what is uploaded. In front of it is what GitLab's registry does otherwise: it checks `subject`,
deletes single tags and, with the metadata database, keeps repositories, manifests and tags itself, answers GitLab's API
and collects garbage while it runs. Facts are those of GitLab's container-registry 4.32 to 4.41 (its documentation under
`docs/spec/gitlab`, and its handlers). On a machine this package is called `gitlab_registry`.
"""
