"""A client for what GitLab keeps in memory."""
