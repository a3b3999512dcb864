# frozen_string_literal: true

require 'open3'
require_relative 'record'

module ObjectStorage
  # Where a file is.
  module Store
    LOCAL = 1
    REMOTE = 2
  end
end

# A file that is attached to something; here, to a project.
class Upload < Record
  record 'uploads', id: :number, project_id: :number, filename: :text, store: :number, size: :number, path: :text

  def model
    Project.find_by(id: project_id)
  end

  def build_uploader
    Uploader.new(self)
  end
end

# Moves the file of an upload, with what the web application has for that.
class Uploader
  LIBRARY = '/opt/gitlab/embedded/service/gitlab-rails'

  def initialize(upload)
    @upload = upload
  end

  def migrate!(store)
    environment = { 'PYTHONPATH' => LIBRARY, 'PYTHONDONTWRITEBYTECODE' => '1' }
    command = ['/usr/bin/python3', '-P', '-m', 'gitlab_web.object_tasks', 'upload', @upload.id.to_s, store.to_s]
    said, status = Open3.capture2e(environment, *command)
    raise said.lines.last.to_s.strip unless status.success?
  end
end
