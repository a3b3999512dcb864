-- What an upgrade leaves to be done while GitLab runs. States: 0 paused, 1 active, 3 finished, 4 failed, 5 finalizing,
-- 6 finalized.
CREATE TABLE batched_background_migrations (
  id INTEGER PRIMARY KEY,
  job_class_name TEXT NOT NULL,
  table_name TEXT NOT NULL,
  column_name TEXT NOT NULL,
  job_arguments TEXT NOT NULL DEFAULT '[]',
  status INTEGER NOT NULL,
  created_at TEXT NOT NULL
);

-- The versions that this database has had.
CREATE TABLE installed_versions (id INTEGER PRIMARY KEY, version TEXT NOT NULL);
