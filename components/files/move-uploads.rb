# Moves GitLab's attachments, avatars and logos to the store that standard input names: 1 is the data volume, 2 is object
# storage. One after another, each in its place before the next one, and each that cannot be moved is named.
#
# GitLab's own tasks for uploads only leave jobs to Sidekiq, and succeed before a file has moved or failed to (GitLab 19,
# lib/gitlab/uploads/migration_helper.rb). This does what such a job does. Idempotent.
target = Integer($stdin.gets)
others = target == ObjectStorage::Store::REMOTE ? [nil, ObjectStorage::Store::LOCAL] : ObjectStorage::Store::REMOTE
failed = 0
Upload.where(store: others).find_each do |upload|
  # Without a model, the file belongs to nothing.
  upload.build_uploader.migrate!(target) if upload.model
rescue StandardError => e
  failed += 1
  puts "Error while migrating #{upload.id}: #{e.message}"
end
exit 1 if failed.positive?
