CREATE TABLE environments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  slug TEXT NOT NULL,
  external_url TEXT,
  tier TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'available' CHECK (state IN ('available', 'stopping', 'stopped')),
  auto_stop_at TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  UNIQUE (project_id, name)
);
ALTER TABLE ci_jobs ADD COLUMN environment_id INTEGER REFERENCES environments (id) ON DELETE SET NULL;
-- The resource that the job must have alone, its variables expanded.
ALTER TABLE ci_jobs ADD COLUMN resource_group TEXT;
CREATE TABLE ci_resource_groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  process_mode TEXT NOT NULL DEFAULT 'unordered',
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  UNIQUE (project_id, key)
);
-- `status` is that of a deployment without a job, made by the API; of others, the job's counts.
CREATE TABLE deployments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  iid INTEGER NOT NULL,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  environment_id INTEGER NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
  job_id INTEGER REFERENCES ci_jobs (id) ON DELETE CASCADE,
  user_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  ref TEXT NOT NULL,
  tag INTEGER NOT NULL DEFAULT 0,
  sha TEXT NOT NULL,
  status TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  UNIQUE (project_id, iid)
);
CREATE INDEX deployments_of_environment ON deployments (environment_id, id);
CREATE VIEW deployment_states AS
  SELECT deployments.*, CASE
    WHEN ci_jobs.id IS NULL THEN deployments.status
    WHEN ci_jobs.status IN ('running', 'canceling') THEN 'running'
    WHEN ci_jobs.status IN ('success', 'failed', 'canceled', 'skipped') THEN ci_jobs.status
    ELSE 'created' END AS state, ci_jobs.finished_at AS finished_at
  FROM deployments LEFT JOIN ci_jobs ON ci_jobs.id = deployments.job_id;
