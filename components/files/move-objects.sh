# Move GitLab's files from the data volume to object storage. GitLab serves each file from where it is meanwhile, and a
# file that could not be moved stays on the volume.
# Input: OBJECT_BUCKETS, UPLOADS_PROGRAM.
RAILS=/var/opt/gitlab/gitlab-rails
# The types that GitLab can move, with their folders and what moves them. Of the others, agent plans and external diffs,
# only new ones go to object storage; external diffs are off unless gitlab.rb turns them on.
MOVED_BY=(
  "artifacts $RAILS/shared/artifacts gitlab-rake gitlab:artifacts:migrate"
  "lfs $RAILS/shared/lfs-objects gitlab-rake gitlab:lfs:migrate"
  "uploads $RAILS/uploads move_uploads 2"
  "packages $RAILS/shared/packages gitlab-rake gitlab:packages:migrate"
  "dependency_proxy $RAILS/shared/dependency_proxy gitlab-rake gitlab:dependency_proxy:migrate"
  "terraform_state $RAILS/shared/terraform_state gitlab-rake gitlab:terraform_states:migrate"
  "ci_secure_files $RAILS/shared/ci_secure_files gitlab-rake gitlab:ci_secure_files:migrate"
)

main() {
  local entry type folder words before after
  for entry in "${MOVED_BY[@]}"; do
    read -ra words <<<"$entry"
    type=${words[0]} folder=${words[1]}
    before=$(count_files "$folder")
    [ "$before" != 0 ] || continue
    say "objects: moving $before files of $type to bucket $(bucket_of "$type")"
    run_task "$type" "${words[@]:2}" ||
      die "files of $type could not be moved to object storage ($cause); GitLab serves them from the data volume, and the next update goes on with them. The full log is $TASK_LOG on the server"
    after=$(count_files "$folder")
    say "objects: $((before - after)) files of $type are in object storage"
    [ "$after" = 0 ] || say "objects: $after files in $folder belong to nothing in GitLab, and stay there"
  done
  say "objects: GitLab's files are in object storage"
}
