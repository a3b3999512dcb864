"""Resources and functions of the provider `gitlab`, on the REST API of GitLab."""
