"""The step that logs in to the registry, on a machine whose HTTP client is played."""

from __future__ import annotations

import subprocess
from pathlib import Path

from components.rendering import script

#: `registry` and `gitlab` hold the statuses that they answer with, one a line; the last one stays. The registry accepts
#: the token that GitLab gives out. Time passes only while something sleeps.
MACHINE = """
sleep() { SECONDS=$((SECONDS + ${1%.*})); }
next() { head -n 1 "$ROOT/$1"; sed -i '1{$!d}' "$ROOT/$1"; }
curl() {
  local given="" status
  case "$*" in *--config*) given=$(cat) ;; esac
  case "$*" in
    *--head*)
      status=$(next registry)
      [ "$status" != 401 ] || printf 'www-authenticate: Bearer realm="https://gitlab/jwt/auth",service="registry"\\r\\n'
      printf 'status: %s\\n' "$status"
      [ "$status" != 000 ]
      ;;
    *jwt/auth*)
      status=$(next gitlab)
      case $given in *not-*) [ "$status" != 200 ] || status=401 ;; esac
      printf '{"token":"signed"}' >"$answer"
      printf '%s' "$status"
      ;;
    *) printf 200 ;;
  esac
}
"""


def log_in(root: Path, registry: str, gitlab: str) -> subprocess.CompletedProcess[str]:
    (root / "registry").write_text("\n".join(registry.split()) + "\n")
    (root / "gitlab").write_text("\n".join(gitlab.split()) + "\n")
    values = f"ROOT={root}\nADMIN_USER=root\nAPI_TOKEN=glpat\nFQDN=gitlab\nPORT=5050\nLIMIT_SECONDS=9"
    text = "\n".join([script("prelude.sh"), values, script("check-registry-login.sh"), MACHINE, "main </dev/null"])
    return subprocess.run(["bash", "-s"], input=text, capture_output=True, text=True, check=False)


def test_a_login_waits_for_a_registry_and_a_gitlab_that_are_restarting(tmp_path: Path) -> None:
    done = log_in(tmp_path, registry="000 502 401", gitlab="502 200")
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


def test_what_does_not_respond_within_two_minutes_is_an_error(tmp_path: Path) -> None:
    done = log_in(tmp_path, registry="502", gitlab="200")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: the registry or GitLab does not respond (status 502); on the server, run: sudo gitlab-ctl status"
    ]


def test_something_else_on_the_port_is_named_at_once(tmp_path: Path) -> None:
    done = log_in(tmp_path, registry="404", gitlab="200")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: https://gitlab:5050/v2/ does not ask for a token (status 404); is it a registry?"
    ]


def test_a_rejected_login_is_not_repeated(tmp_path: Path) -> None:
    done = log_in(tmp_path, registry="401", gitlab="403 200")
    assert done.returncode == 1
    assert "rejects root with a valid token (status 403)" in done.stderr
