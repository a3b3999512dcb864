# Move GitLab's files from the data volume to object storage, with GitLab's own tasks. GitLab serves each file from where
# it is meanwhile, and a file that could not be moved stays on the volume.
# Input: OBJECT_BUCKETS.
RAILS=/var/opt/gitlab/gitlab-rails
# The types that GitLab has a task for, with their folders and tasks. Of the others, agent plans and external diffs, only
# new ones go to object storage; external diffs are off unless gitlab.rb turns them on.
MOVED_BY=(
  "artifacts $RAILS/shared/artifacts gitlab:artifacts:migrate"
  "lfs $RAILS/shared/lfs-objects gitlab:lfs:migrate"
  "uploads $RAILS/uploads gitlab:uploads:migrate:all"
  "packages $RAILS/shared/packages gitlab:packages:migrate"
  "dependency_proxy $RAILS/shared/dependency_proxy gitlab:dependency_proxy:migrate"
  "terraform_state $RAILS/shared/terraform_state gitlab:terraform_states:migrate"
  "ci_secure_files $RAILS/shared/ci_secure_files gitlab:ci_secure_files:migrate"
)

main() {
  local entry type folder task before after
  for entry in "${MOVED_BY[@]}"; do
    read -r type folder task <<<"$entry"
    before=$(count_files "$folder")
    [ "$before" != 0 ] || continue
    say "objects: moving $before files of $type to bucket $(bucket_of "$type")"
    run_task "$type" "$task" ||
      die "files of $type could not be moved to object storage ($cause); GitLab serves them from the data volume, and the next update goes on with them. The full log is $TASK_LOG on the server"
    after=$(count_files "$folder")
    say "objects: $((before - after)) files of $type are in object storage"
    [ "$after" = 0 ] || say "objects: $after files in $folder belong to nothing in GitLab, and stay there"
  done
  say "objects: GitLab's files are in object storage"
}
