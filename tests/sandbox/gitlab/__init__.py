"""The `gitlab-ce` stand-in: a Debian package that behaves as GitLab does towards whoever sets it up and uses it.

`build.py` makes the package out of two trees: `package/` is what lies in it as it is (maintainer scripts, `gitlab-ctl`
and its cookbooks in Ruby, `gitlab-rails runner`), `web/` is the web application in Python. On a machine:

    gitlab-ctl reconfigure   embedded/cookbooks: settings.rb evaluates gitlab.rb, configuration.rb says what it comes
                             to, reconfigure.rb brings the machine there
    gitlab-rails runner      embedded/rails: a few models over the application's database
    registry                 embedded/bin/registry: checks and translates the configuration of GitLab's registry, and
                             runs the Docker distribution with it
    puma                     web/: REST API v4, git over HTTPS, /jwt/auth, CI and its runners, health, pages
"""
