# Commit the pipeline to a project, unless the branch has it already: each commit starts a pipeline, which releases the
# image again, under another digest.
# Input: API_TOKEN, BRANCH, FILE, GITLAB_URL, PIPELINE, PROJECT_ID.
main() {
  local found wanted status deadline=$((SECONDS + 60))
  found=$(mktemp) wanted=$(mktemp)
  at_exit rm -f "$found" "$wanted"
  printf '%s' "$PIPELINE" >"$wanted"
  while :; do
    status=$(read_pipeline "$found")
    case $status in
      000) die "GitLab's API does not respond; it is safe to run this step again" ;;
      200) ! cmp --silent "$found" "$wanted" || break ;;
      404) ;;
      401) die_of_rejected_token ;;
      *) die "GitLab responds with $status when asked for $FILE of project $PROJECT_ID: $(gitlab_says "$found")" ;;
    esac
    status=$(write_pipeline "$status" "$found" "$wanted")
    case $status in
      200 | 201) say "project $PROJECT_ID: $FILE is committed to $BRANCH"; break ;;
      401) die_of_rejected_token ;;
    esac
    # Somebody else has committed at the same moment; GitLab asks to try again.
    if [ "$SECONDS" -ge "$deadline" ] || ! grep -q 'refresh and try again' "$found"; then
      die "GitLab rejects $FILE in project $PROJECT_ID (status $status): $(gitlab_says "$found")"
    fi
    sleep 1
  done
  sha256sum "$wanted" | cut -d' ' -f1
}

# With its dots encoded: GitLab's API takes what follows the last one for a format.
path_of_file() { printf 'projects/%s/repository/files/%s' "$PROJECT_ID" "${FILE//./%2E}"; }

read_pipeline() {
  gitlab_api "$(path_of_file)/raw" "$1" --get --data-urlencode "ref=$BRANCH"
}

# write_pipeline STATUS BODY CONTENT: create the file if reading it gave the STATUS 404, otherwise change it.
write_pipeline() {
  local method=PUT message="Change the pipeline"
  [ "$1" != 404 ] || { method=POST message="Add the pipeline"; }
  gitlab_api "$(path_of_file)" "$2" --max-time 60 --request "$method" \
    --data-urlencode "branch=$BRANCH" --data-urlencode "commit_message=$message" --data-urlencode "content@$3"
}
