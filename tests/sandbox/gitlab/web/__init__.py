"""Web application of the GitLab stand-in: REST API v4, tokens for the registry, health, a page that says what it is.

On a machine it is the package `gitlab_web`. It uses nothing but Starlette, PyJWT, cryptography, Jinja2, PyYAML, httpx.
"""
