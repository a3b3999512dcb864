"""What every part of the application stands on: database, settings, users, tokens, projects, repositories.

Answers no requests: `api`, `ci` and the pages are built on it, and it imports none of them.
"""
