# Prove that the registry's storage can be used, then apply the registry's settings.
# Input: FQDN, PORT, REGISTRY_RB, and for object storage S3_ACCESS_KEY, S3_BUCKET, S3_ENDPOINT, S3_REGION, S3_SECRET_KEY.
main() {
  if [ -n "$S3_BUCKET" ]; then
    prove_bucket
  fi
  # Left behind by a run that was killed between the file and the registry: what is written is not yet in force.
  local unfinished=/etc/gitlab/registry.rb.unfinished
  [ -e "$unfinished" ] || cp --preserve /etc/gitlab/registry.rb "$unfinished.new"
  if ! cmp --silent - /etc/gitlab/registry.rb <<<"$REGISTRY_RB" || [ -e "$unfinished" ] || ! answers; then
    [ -e "$unfinished" ] || mv "$unfinished.new" "$unfinished"
    write_file /etc/gitlab/registry.rb 600 <<<"$REGISTRY_RB"
    apply "$unfinished"
  fi
  rm -f "$unfinished" "$unfinished.new"
  sha256sum /etc/gitlab/registry.rb | cut -d' ' -f1
}

# apply PREVIOUS: bring the settings into force; where GitLab refuses them, put the previous ones back.
apply() {
  say "registry: applying its configuration"
  if ! reconfigure; then
    mv "$1" /etc/gitlab/registry.rb
    reconfigure || die "GitLab took neither the registry's new settings nor the earlier ones; see above"
    die "GitLab refuses the registry's settings; the earlier ones are in force again"
  fi
  # Settings are read at the start only.
  gitlab-ctl restart registry >/dev/null || die "the registry does not start; see: sudo gitlab-ctl tail registry"
  wait_for_registry
}

# The registry's own key, from the machine that will use it: list, write and read. The marker object stays.
prove_bucket() {
  local marker=slipway-storage-check.txt text answer
  answer=$(mktemp)
  text="The container registry of $FQDN keeps its images in this bucket."
  s3 GET '?list-type=2&max-keys=1' "list" "$answer"
  s3 PUT "/$marker" "write to" "$answer" --data-binary "$text" --header 'Content-Type: text/plain'
  s3 GET "/$marker" "read from" "$answer"
  [ "$(cat "$answer")" = "$text" ] || die "bucket $S3_BUCKET gave back another text than was written; nothing was changed"
  rm -f "$answer"
  say "registry: the key lists, writes and reads bucket $S3_BUCKET"
}

# s3 METHOD OBJECT VERB ANSWER [CURL OPTION…]
s3() {
  local method=$1 object=$2 verb=$3 answer=$4 status deadline=$((SECONDS + 30))
  shift 4
  # A key that was made a moment ago may be unknown for some seconds.
  until status=$(s3_request "$method" "$object" "$answer" "$@") && [ "$status" != 403 ]; do
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 2
  done
  case $status in
    2??) ;;
    000) die "$S3_ENDPOINT does not answer; nothing was changed. Is the endpoint right?" ;;
    403) die "the registry's key may not $verb bucket $S3_BUCKET (403 $(s3_code "$answer")); nothing was changed. Check the key and its grants" ;;
    404) die "there is no bucket $S3_BUCKET at $S3_ENDPOINT (404 $(s3_code "$answer")); nothing was changed. Check bucket and region" ;;
    *) die "could not $verb bucket $S3_BUCKET at $S3_ENDPOINT ($status $(s3_code "$answer")); nothing was changed" ;;
  esac
}

# s3_request METHOD OBJECT ANSWER [CURL OPTION…]: the status, 000 if there is no answer.
s3_request() {
  local method=$1 object=$2 answer=$3
  shift 3
  printf 'user = "%s:%s"\n' "$S3_ACCESS_KEY" "$S3_SECRET_KEY" |
    curl --silent --max-time 60 --output "$answer" --write-out '%{http_code}' --aws-sigv4 "aws:amz:$S3_REGION:s3" \
      --request "$method" --config - "$@" "$S3_ENDPOINT/$S3_BUCKET$object"
}

s3_code() { sed -n 's/.*<Code>\([A-Za-z]*\)<\/Code>.*/\1/p' "$1" | head -n 1; }

answers() {
  [ "$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/")" = 401 ]
}

wait_for_registry() {
  local deadline=$((SECONDS + 120))
  until answers; do
    [ "$SECONDS" -lt "$deadline" ] || die "the registry does not answer on port $PORT after two minutes; see: sudo gitlab-ctl tail registry"
    sleep 0.5
  done
  say "registry: answers on port $PORT"
}
