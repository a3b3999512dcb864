"""What the rest of the application is built on: database, settings, users, tokens, projects, repositories.

Handles no requests, and imports nothing of `api`, `ci` and the pages.
"""
