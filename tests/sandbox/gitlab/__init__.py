"""The `gitlab-ce` stand-in: a Debian package that behaves like GitLab towards its administrator and its users.

`build.py` builds the package from two trees: `package/` holds files that are packaged unchanged (maintainer scripts,
`gitlab-ctl` and its cookbooks in Ruby, `gitlab-rails runner`), `web/` is the web application in Python. On a machine:

    gitlab-ctl reconfigure   embedded/cookbooks: settings.rb evaluates gitlab.rb, configuration.rb computes the result,
                             reconfigure.rb applies it to the machine
    gitlab-rails runner      embedded/rails: a few models on the application's database
    registry                 embedded/bin/registry: checks and translates the configuration of GitLab's registry, and
                             starts the Docker distribution with it
    puma                     web/: REST API v4, git over HTTPS, /jwt/auth, CI and its runners, health, pages
"""
