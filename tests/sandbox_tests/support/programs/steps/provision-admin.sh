# shellcheck shell=bash disable=SC2154 # The variables are those of the step, which is sent with them.
main() {
  printf '%s' "$TOKEN_EXPIRES_AT"
}
