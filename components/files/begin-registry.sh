# Have GitLab's first configuration include the registry, if its storage is empty. Otherwise GitLab, which takes minutes to
# configure, would be configured twice. Whatever has images waits for the step that comes after GitLab's configuration.
# Input: DATABASE, REGISTRY_RB, and S3_ACCESS_KEY, S3_BUCKET, S3_ENDPOINT, S3_REGION, S3_SECRET_KEY (empty without object
# storage), FQDN.
main() {
  local settings="registry['enable'] = false"
  if is_configured; then
    say "registry: GitLab is configured already; its settings are applied later"
    return
  fi
  [ -z "$S3_BUCKET" ] || verify_bucket
  if [ "$(metadata_state)" = none ]; then
    settings=$REGISTRY_RB
    # Not with write_file: it goes away, and nobody is to miss it.
    printf '%s\n' "$DATABASE" >"$BEGUN.new"
    mv "$BEGUN.new" "$BEGUN"
  else
    rm -f "$BEGUN"
  fi
  write_file /etc/gitlab/registry.rb 600 <<<"$settings"
}

# is_configured: whether GitLab has become ready with this data before. A first configuration that has failed leaves GitLab
# with what this step has written, and may have failed because of it.
is_configured() { [ -d /etc/gitlab/slipway-working ] || { [ -e /var/opt/gitlab/bootstrapped ] && [ ! -e "$BEGUN" ]; }; }
