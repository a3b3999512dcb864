# Verify that the registry can use its storage, then apply the registry's settings.
# Input: FQDN, PORT, REGISTRY_RB, and S3_ACCESS_KEY, S3_BUCKET, S3_ENDPOINT, S3_REGION, S3_SECRET_KEY (empty without
# object storage).
main() {
  if [ -n "$S3_BUCKET" ]; then
    verify_bucket
  fi
  # Left by a run that was interrupted after writing the file: the new settings are not in effect yet.
  local unfinished=/etc/gitlab/registry.rb.unfinished
  [ -e "$unfinished" ] || cp --preserve /etc/gitlab/registry.rb "$unfinished.new"
  if ! cmp --silent - /etc/gitlab/registry.rb <<<"$REGISTRY_RB" || [ -e "$unfinished" ] || ! registry_responds; then
    [ -e "$unfinished" ] || mv "$unfinished.new" "$unfinished"
    write_file /etc/gitlab/registry.rb 600 <<<"$REGISTRY_RB"
    apply_settings "$unfinished"
  fi
  rm -f "$unfinished" "$unfinished.new"
  sha256sum /etc/gitlab/registry.rb | cut -d' ' -f1
}

# apply_settings PREVIOUS: apply registry.rb; if GitLab rejects it, restore the file PREVIOUS.
apply_settings() {
  say "registry: applying the configuration"
  if ! reconfigure; then
    mv "$1" /etc/gitlab/registry.rb
    reconfigure || die "GitLab accepts neither the registry's new settings nor the previous ones; see above"
    die "GitLab rejects the registry's settings; the previous ones were restored"
  fi
  # The registry reads its settings only when it starts.
  gitlab-ctl restart registry >/dev/null || die "the registry does not start; on the server, run: sudo gitlab-ctl tail registry"
  wait_for_registry
}

# verify_bucket: list, write and read with the registry's own key, from the machine that will use it. The marker object
# is kept.
verify_bucket() {
  local marker=slipway-storage-check.txt text body
  body=$(mktemp)
  text="The container registry of $FQDN keeps its images in this bucket."
  s3 GET '?list-type=2&max-keys=1' "list" "$body"
  s3 PUT "/$marker" "write to" "$body" --data-binary "$text" --header 'Content-Type: text/plain'
  s3 GET "/$marker" "read from" "$body"
  [ "$(cat "$body")" = "$text" ] || die "bucket $S3_BUCKET returned a different text than was written; nothing was changed"
  rm -f "$body"
  say "registry: the key can list, write and read bucket $S3_BUCKET"
}

# s3 METHOD OBJECT VERB BODY [CURL OPTION…]: send a request, or stop with a message in which VERB says what failed.
s3() {
  local method=$1 object=$2 verb=$3 body=$4 status deadline=$((SECONDS + 30))
  shift 4
  # A new key may not be accepted for some seconds.
  until status=$(s3_request "$method" "$object" "$body" "$@") && [ "$status" != 403 ]; do
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 2
  done
  case $status in
    2??) ;;
    000) die "$S3_ENDPOINT does not respond; nothing was changed. Is the endpoint correct?" ;;
    403) die "the registry's key may not $verb bucket $S3_BUCKET (403 $(s3_code "$body")); nothing was changed. Check the key and its grants" ;;
    404) die "there is no bucket $S3_BUCKET at $S3_ENDPOINT (404 $(s3_code "$body")); nothing was changed. Check bucket and region" ;;
    *) die "could not $verb bucket $S3_BUCKET at $S3_ENDPOINT ($status $(s3_code "$body")); nothing was changed" ;;
  esac
}

# s3_request METHOD OBJECT BODY [CURL OPTION…]: writes the response to the file BODY and prints the status, 000 if there
# is no response.
s3_request() {
  local method=$1 object=$2 body=$3
  shift 3
  printf 'user = "%s:%s"\n' "$S3_ACCESS_KEY" "$S3_SECRET_KEY" |
    curl --silent --max-time 60 --output "$body" --write-out '%{http_code}' --aws-sigv4 "aws:amz:$S3_REGION:s3" \
      --request "$method" --config - "$@" "$S3_ENDPOINT/$S3_BUCKET$object"
}

s3_code() { sed -n 's/.*<Code>\([A-Za-z]*\)<\/Code>.*/\1/p' "$1" | head -n 1; }

registry_responds() {
  [ "$(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' \
    --resolve "$FQDN:$PORT:127.0.0.1" "https://$FQDN:$PORT/v2/")" = 401 ]
}

wait_for_registry() {
  local deadline=$((SECONDS + 120))
  until registry_responds; do
    [ "$SECONDS" -lt "$deadline" ] || die "the registry does not respond on port $PORT after two minutes; on the server, run: sudo gitlab-ctl tail registry"
    sleep 0.5
  done
  say "registry: responds on port $PORT"
}
