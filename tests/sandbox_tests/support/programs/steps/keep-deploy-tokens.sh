# shellcheck shell=bash disable=SC2154 # The variables are those of the step, which is sent with them.
main() {
  local id separator=''
  printf '{'
  for id in $TOKENS; do
    printf '%s"%s": "value of the token"' "$separator" "$id"
    separator=,
  done
  printf '}'
}
