-- The parts of a batched background migration. States of a job: 0 pending, 1 running, 2 failed, 3 succeeded. `interval` is
-- in seconds.
ALTER TABLE batched_background_migrations ADD COLUMN interval INTEGER NOT NULL DEFAULT 2;
ALTER TABLE batched_background_migrations ADD COLUMN batch_size INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batched_background_migrations ADD COLUMN min_value INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batched_background_migrations ADD COLUMN max_value INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batched_background_migrations ADD COLUMN started_at TEXT;
ALTER TABLE batched_background_migrations ADD COLUMN finished_at TEXT;

CREATE TABLE batched_background_migration_jobs (
  id INTEGER PRIMARY KEY,
  batched_background_migration_id INTEGER NOT NULL REFERENCES batched_background_migrations ON DELETE CASCADE,
  min_value INTEGER NOT NULL,
  max_value INTEGER NOT NULL,
  batch_size INTEGER NOT NULL,
  status INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL
);

CREATE TABLE batched_background_migration_job_transition_logs (
  id INTEGER PRIMARY KEY,
  batched_background_migration_job_id INTEGER NOT NULL
    REFERENCES batched_background_migration_jobs ON DELETE CASCADE,
  exception_class TEXT NOT NULL,
  exception_message TEXT NOT NULL,
  created_at TEXT NOT NULL
);
