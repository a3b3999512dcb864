"""Package archives of the sandbox: part of Debian's, and GitLab's."""
