# Functions for the machine that GitLab runs on. Input of gitlab_api: API_TOKEN, GITLAB_URL.

# gitlab_api PATH BODY [CURL OPTION…]: call GitLab's REST API as the owner of API_TOKEN. Writes the response to the file
# BODY and prints the status, 000 if there is no response. Connects to this machine whatever the name resolves to, and
# keeps the token out of the command line.
gitlab_api() {
  local path=$1 body=$2 url=${GITLAB_URL:?} token=${API_TOKEN:?}
  shift 2
  curl --silent --max-time 30 --config <(printf 'header = "PRIVATE-TOKEN: %s"\n' "$token") --output "$body" \
    --write-out '%{http_code}' --resolve "${url#https://}:443:127.0.0.1" "$@" "$url/api/v4/$path" || true
}

# gitlab_says BODY: print what GitLab has answered, on one line. Of an error page, which is meant for browsers, its title.
gitlab_says() {
  local text
  text=$(head -c 4000 "$1" | tr '\n' ' ')
  if [[ ${text,,} =~ "<!doctype html"|"<html" ]]; then
    text=$(sed -n 's:.*<title>\([^<]*\)</title>.*:\1:Ip' <<<"$text")
    text="an error page${text:+ with the title \"$text\"}"
  fi
  printf '%s' "${text:0:300}"
}

# `pulumi up` replaces a token that has expired by itself, but notices no other reason.
die_of_rejected_token() {
  die "GitLab rejects the stack's own API token: it was revoked there, or its owner was blocked. Replace it with: pulumi up --replace URN of gitlab-api-token-digits"
}

# reconfigure: apply gitlab.rb. The log may contain configured secrets, so only root can read it.
reconfigure() {
  # Not a bare `return`: in a trap that would return the status from before the trap.
  with_heartbeat "gitlab: reconfigure" run_reconfigure && return 0
  reconfigure_errors | tail -n 15 >&2 || true
  say "gitlab-ctl reconfigure failed; the full log is $RECONFIGURE_LOG on the server"
  return 1
}
# The package prints its reason below a line of its own, in red; what its steps say comes before.
reconfigure_errors() {
  sed 's/\x1b\[[0-9;]*m//g' "$RECONFIGURE_LOG" |
    awk '/There was an error running gitlab-ctl reconfigure/ { reason = 1; print; next }
      reason && NF && reason++ < 6 || tolower($0) ~ /^(error|fatal)|error:|failed|denied|refused/'
}
RECONFIGURE_LOG=/var/log/slipway-reconfigure.log
run_reconfigure() {
  : >"$RECONFIGURE_LOG"
  (umask 022; gitlab-ctl reconfigure) >>"$RECONFIGURE_LOG" 2>&1
}
