# Commit the sample application to a project that has no files of its developers. Later it is theirs: on a machine that was
# made again, nothing is committed, whatever they have kept of it.
# Input: API_TOKEN, COMMIT (a JSON document: branch, message and actions), GITLAB_URL, PROJECT_ID.
main() {
  local body status
  body=$(mktemp)
  status=$(gitlab_api "projects/$PROJECT_ID/repository/tree" "$body" --get --data per_page=100)
  case $status in
    200) ;;
    401 | 403) die_of_rejected_token ;;
    *) die "GitLab responds with $status when asked for the files of project $PROJECT_ID: $(gitlab_says "$body")" ;;
  esac
  # Created by GitLab with the project, and by the stack.
  if grep -oE '"path": *"[^"]*"' "$body" | grep -qvE '"(README\.md|\.gitlab-ci\.yml)"$'; then
    rm -f "$body"
    printf 'seeded\n'
    return
  fi
  status=$(gitlab_api "projects/$PROJECT_ID/repository/commits" "$body" --max-time 60 --data-binary @- \
    --header 'Content-Type: application/json' <<<"$COMMIT")
  case $status in
    201) say "project $PROJECT_ID: the sample application is committed" ;;
    400) grep -q 'already exists' "$body" || die "GitLab rejects the sample application: $(gitlab_says "$body")" ;;
    401 | 403) die_of_rejected_token ;;
    *) die "GitLab responds with $status to the sample application of project $PROJECT_ID: $(gitlab_says "$body")" ;;
  esac
  rm -f "$body"
  printf 'seeded\n'
}
