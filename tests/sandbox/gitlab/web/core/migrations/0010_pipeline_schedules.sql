-- `ref` is whole where it names one; `next_run_at` is when the worker comes to it, not what the cron expression says.
CREATE TABLE ci_pipeline_schedules (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  owner_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  description TEXT NOT NULL,
  ref TEXT NOT NULL,
  cron TEXT NOT NULL,
  cron_timezone TEXT NOT NULL,
  active INTEGER NOT NULL DEFAULT 1,
  next_run_at TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE TABLE ci_pipeline_schedule_variables (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  schedule_id INTEGER NOT NULL REFERENCES ci_pipeline_schedules (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  encrypted_value TEXT NOT NULL,
  variable_type TEXT NOT NULL DEFAULT 'env_var',
  UNIQUE (schedule_id, key)
);
ALTER TABLE ci_pipelines ADD COLUMN schedule_id INTEGER REFERENCES ci_pipeline_schedules (id) ON DELETE SET NULL;
