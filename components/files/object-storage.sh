# Functions for buckets of the registry and of GitLab. Input of all: S3_ACCESS_KEY, S3_BUCKET, S3_ENDPOINT, S3_REGION,
# S3_SECRET_KEY.

# Whose key it is, for messages.
S3_OWNER="the registry"

# verify_bucket: do what a push and the garbage collector do, with the registry's own key, from the machine that will use
# it. Large layers are uploaded in parts, and an upload that was interrupted is looked up and continued or aborted. GitLab
# does the same with its files.
verify_bucket() {
  local object=/slipway-storage-check.txt sent body upload
  body=$(mktemp)
  sent=$(mktemp)
  printf '%s at %s keeps its data in this bucket.' "$S3_OWNER" "$FQDN" >"$sent"
  s3 GET '?list-type=2&max-keys=1' "list" ListBucket "$body"
  s3 PUT "$object" "write to" PutObject "$body" "$sent"
  s3 GET "$object" "read from" GetObject "$body"
  cmp --silent "$sent" "$body" || die "bucket $S3_BUCKET returned a different text than was written; nothing was changed"
  s3 POST "$object?uploads=" "begin an upload in parts to" PutObject "$body" /dev/null
  upload=$(s3_field UploadId "$body")
  s3 GET "?prefix=${object#/}&uploads=" "list the unfinished uploads of" ListBucketMultipartUploads "$body"
  s3 PUT "$object?partNumber=1&uploadId=$upload" "upload a part to" PutObject "$body" "$sent"
  s3 GET "$object?uploadId=$upload" "list the parts of an upload to" ListMultipartUploadParts "$body"
  printf '<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>' \
    "$(s3_field ETag "$body")" >"$sent"
  s3 POST "$object?uploadId=$upload" "complete an upload to" PutObject "$body" "$sent"
  s3 POST "$object?uploads=" "begin an upload in parts to" PutObject "$body" /dev/null
  upload=$(s3_field UploadId "$body")
  s3 DELETE "$object?uploadId=$upload" "abort an upload to" AbortMultipartUpload "$body"
  s3 DELETE "$object" "delete from" DeleteObject "$body"
  rm -f "$body" "$sent"
  say "${S3_OWNER#the }: the key can list, read, write, upload in parts and delete in bucket $S3_BUCKET"
}

# s3 METHOD OBJECT VERB ACTION BODY [SENT]: send a request, or stop with a message in which VERB says what failed
# and ACTION is the right that it needs, as Amazon names it.
s3() {
  local method=$1 object=$2 verb=$3 action=$4 body=$5 status deadline=$((SECONDS + 30))
  # A new key may not be accepted for some seconds.
  until status=$(s3_request "$method" "$object" "$body" "${6:-}") && [ "$status" != 403 ]; do
    [ "$SECONDS" -lt "$deadline" ] || break
    sleep 2
  done
  case $status in
    2??) ;;
    000) die "$S3_ENDPOINT does not respond; nothing was changed. Is the endpoint correct?" ;;
    403) die "$S3_OWNER's key may not $verb bucket $S3_BUCKET (403 $(s3_field Code "$body")); nothing was changed. Check the key; it needs the right s3:$action" ;;
    404) die "there is no bucket $S3_BUCKET at $S3_ENDPOINT (404 $(s3_field Code "$body")); nothing was changed. Check bucket and region" ;;
    *) die "could not $verb bucket $S3_BUCKET at $S3_ENDPOINT ($status $(s3_field Code "$body")); nothing was changed" ;;
  esac
}

# s3_request METHOD OBJECT BODY [SENT]: send the file SENT, write the response to the file BODY and print the status, 000
# if there is no response. The parameters in OBJECT have to be in alphabetical order: older versions of curl sign them as
# they are, and sign no checksum of their own.
s3_request() {
  local method=$1 object=$2 body=$3 sent=${4:-} options=() checksum
  [ -z "$sent" ] || options=(--data-binary "@$sent" --header 'Content-Type: application/octet-stream')
  checksum=$(sha256sum <"${sent:-/dev/null}" | cut -d' ' -f1)
  printf 'user = "%s:%s"\n' "$S3_ACCESS_KEY" "$S3_SECRET_KEY" |
    curl --silent --max-time 60 --output "$body" --write-out '%{http_code}' --aws-sigv4 "aws:amz:$S3_REGION:s3" \
      --header "x-amz-content-sha256: $checksum" --request "$method" --config - "${options[@]}" \
      "$S3_ENDPOINT/$S3_BUCKET$object"
}

# s3_next_page BODY: print what asks for the rest of a list, as it stands in an address; nothing after the last page.
s3_next_page() { s3_field NextContinuationToken "$1" | sed 's/%/%25/g; s/+/%2B/g; s,/,%2F,g; s/=/%3D/g'; }

# s3_field NAME BODY: print the first element NAME of an answer.
s3_field() { sed -n "s/.*<$1>\([^<]*\)<\/$1>.*/\1/p" "$2" | head -n 1; }
