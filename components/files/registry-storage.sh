# Functions for what the registry keeps its images in. Input: DATABASE, and that of object-storage.sh, empty without a bucket.

# What the storage is known by: the object that names the database of its images.
DATABASE_NOTE=slipway-registry-database.txt
# GitLab's own sign that the images of a storage are in a database.
DATABASE_LOCK=docker/registry/lockfiles/database-in-use
DIRECTORY=/var/opt/gitlab/gitlab-rails/shared/registry

# The database with which the registry has begun, in an empty storage, when GitLab was configured for the first time.
BEGUN=/etc/gitlab/registry.rb.begun
has_begun() { [ "$(cat "$BEGUN" 2>/dev/null)" = "$DATABASE" ]; }

# metadata_state: print where the list of the storage's images is: `database`, `legacy` (in the storage itself), or `none`
# without images that anybody would have to import.
metadata_state() {
  if has_begun; then
    echo none
  elif storage_read "$DATABASE_NOTE" >/dev/null || storage_read "$DATABASE_LOCK" >/dev/null; then
    echo database
  elif has_legacy_images; then
    echo legacy
  else
    echo none
  fi
}

storage_name() { if [ -n "$S3_BUCKET" ]; then printf 'bucket %s' "$S3_BUCKET"; else printf '%s' "$DIRECTORY"; fi; }

# storage_read NAME: print an object of the storage; fails if there is none.
storage_read() {
  local body status
  [ -n "$S3_BUCKET" ] || { cat "$DIRECTORY/$1" 2>/dev/null; return; }
  body=$(mktemp)
  status=$(s3_request GET "/$1" "$body") || status=000
  [ "$status" != 200 ] || cat "$body"
  rm -f "$body"
  case $status in
    200) ;;
    404) return 1 ;;
    *) die "could not read $1 in bucket $S3_BUCKET at $S3_ENDPOINT ($status); nothing was changed" ;;
  esac
}

# storage_write NAME: put standard input into the storage.
storage_write() {
  local body sent
  if [ -z "$S3_BUCKET" ]; then
    cat >"$DIRECTORY/$1.new"
    mv "$DIRECTORY/$1.new" "$DIRECTORY/$1"
    return
  fi
  body=$(mktemp)
  sent=$(mktemp)
  cat >"$sent"
  s3 PUT "/$1" "write to" PutObject "$body" "$sent"
  rm -f "$body" "$sent"
}

# has_legacy_images: whether there are manifests in the storage, where only a registry without a database puts them.
has_legacy_images() {
  local body token='' folder=docker%2Fregistry%2Fv2%2Frepositories%2F
  [ -n "$S3_BUCKET" ] || { [ -n "$(find "$DIRECTORY/docker/registry/v2/repositories" -path '*/_manifests/*' -print -quit 2>/dev/null)" ]; return; }
  body=$(mktemp)
  while :; do
    s3 GET "?${token:+continuation-token=$token&}list-type=2&prefix=$folder" "list" ListBucket "$body"
    if grep -q '/_manifests/' "$body"; then
      rm -f "$body"
      return 0
    fi
    token=$(s3_next_page "$body")
    [ -n "$token" ] || break
  done
  rm -f "$body"
  return 1
}
