# frozen_string_literal: true

require_relative 'record'

module Gitlab
  module Database
    module BackgroundMigration
      # A batched background migration. Its batches are run by the application.
      class BatchedMigration < Record
        record 'batched_background_migrations',
               id: :number, job_class_name: :text, table_name: :text, column_name: :text, job_arguments: :text,
               status: :number, interval: :number, batch_size: :number, created_at: :text

        STATUSES = { paused: 0, active: 1, finished: 3, failed: 4, finalizing: 5, finalized: 6 }.freeze

        class << self
          def with_statuses(*names)
            values = names.map { |name| STATUSES.fetch(name) }
            Relation.new(self, {}, filter: ->(record) { values.include?(record.status) })
          end
          alias with_status with_statuses

          def queued
            with_statuses(:active, :paused)
          end
        end

        def status_name
          STATUSES.key(status)
        end

        def execute!
          update!(status: STATUSES.fetch(:active))
        end

        def pause!
          update!(status: STATUSES.fetch(:paused))
        end

        # The batches that have failed get their three attempts again.
        def retry_failed_jobs!
          ::Database.connection.execute(<<~SQL, [id])
            UPDATE batched_background_migration_jobs SET attempts = 0
            WHERE batched_background_migration_id = ? AND status = 2
          SQL
          execute!
        end
      end
    end
  end
end
