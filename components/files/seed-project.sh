# Put the sample application into a project, in one commit. Files that are there already are left alone, all of them.
# Input: API_TOKEN, COMMIT (a JSON document: branch, message and actions), GITLAB_URL, PROJECT_ID.
main() {
  local host=${GITLAB_URL#https://} answer status
  answer=$(mktemp)
  status=$(curl --silent --max-time 60 --config <(printf 'header = "PRIVATE-TOKEN: %s"\n' "$API_TOKEN") \
    --header 'Content-Type: application/json' --data-binary @- --output "$answer" --write-out '%{http_code}' \
    --resolve "$host:443:127.0.0.1" "$GITLAB_URL/api/v4/projects/$PROJECT_ID/repository/commits" <<<"$COMMIT") || true
  case $status in
    201) say "project $PROJECT_ID: the sample application is in its repository" ;;
    400) grep -q 'already exists' "$answer" || die "GitLab refuses the sample application: $(head -c 300 "$answer")" ;;
    *) die "GitLab answers $status to the sample application of project $PROJECT_ID: $(head -c 300 "$answer")" ;;
  esac
  rm -f "$answer"
  printf 'seeded\n'
}
