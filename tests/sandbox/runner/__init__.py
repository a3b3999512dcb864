"""A stand-in for the packages `gitlab-runner` and `gitlab-runner-helper-images`."""
