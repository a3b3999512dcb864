# Keep the values of deploy tokens that an earlier life of the stack has left on the data volume, and print all of them.
# Input: PROGRAM, TOKENS (their IDs, one a line, each after that of its project and a colon).
main() {
  local program printed
  program=$(mktemp --suffix=.rb)
  at_exit rm -f "$program"
  printf '%s\n' "$PROGRAM" >"$program"
  # GitLab's Rails console runs as git.
  chmod 644 "$program"
  printed=$(gitlab-rails runner "$program" <<<"$TOKENS") || die "GitLab does not show its deploy tokens; the cause is above"
  # The console may print more before it.
  tail -n 1 <<<"$printed"
}
