"""Package archives of the sandbox: a part of Debian, and GitLab's."""
