"""Web application of the GitLab stand-in: REST API v4, git over HTTPS, CI, registry tokens, health checks, web pages.

On a machine it is the package `gitlab_web`. It uses nothing but Starlette, PyJWT, cryptography, Jinja2, PyYAML,
httpx and graphql-core, which the package brings along.

    core     database, settings, users, projects, repositories, credentials; knows nothing of what is above it
    ci       pipelines, jobs and runners, without HTTP
    api      everything below /api/v4
    (top)    the other addresses: graphql_api, git_http, jwt_auth, health, pages; app puts all of them together
"""
