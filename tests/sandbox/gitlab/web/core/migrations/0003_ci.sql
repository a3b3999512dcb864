CREATE TABLE ci_runners (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  runner_type TEXT NOT NULL CHECK (runner_type IN ('instance_type', 'group_type', 'project_type')),
  group_id INTEGER REFERENCES namespaces (id) ON DELETE CASCADE,
  creator_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  token_digest TEXT NOT NULL UNIQUE,
  description TEXT,
  paused INTEGER NOT NULL DEFAULT 0,
  locked INTEGER NOT NULL DEFAULT 0,
  run_untagged INTEGER NOT NULL DEFAULT 1,
  tags TEXT NOT NULL DEFAULT '[]',
  access_level TEXT NOT NULL DEFAULT 'not_protected',
  maximum_timeout INTEGER,
  maintenance_note TEXT,
  contacted_at TEXT,
  created_at TEXT NOT NULL
);
CREATE TABLE ci_runner_projects (
  runner_id INTEGER NOT NULL REFERENCES ci_runners (id) ON DELETE CASCADE,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  PRIMARY KEY (runner_id, project_id)
);
-- The processes that run with a runner's token, one for each machine that has it.
CREATE TABLE ci_runner_managers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  runner_id INTEGER NOT NULL REFERENCES ci_runners (id) ON DELETE CASCADE,
  system_id TEXT NOT NULL,
  info TEXT NOT NULL DEFAULT '{}',
  ip_address TEXT,
  contacted_at TEXT,
  created_at TEXT NOT NULL,
  UNIQUE (runner_id, system_id)
);
CREATE TABLE ci_pipelines (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  iid INTEGER NOT NULL,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  user_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  name TEXT,
  ref TEXT NOT NULL,
  tag INTEGER NOT NULL DEFAULT 0,
  sha TEXT NOT NULL,
  before_sha TEXT NOT NULL,
  source TEXT NOT NULL,
  status TEXT NOT NULL,
  protected INTEGER NOT NULL DEFAULT 0,
  yaml_errors TEXT,
  variables TEXT NOT NULL DEFAULT '[]',
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  started_at TEXT,
  finished_at TEXT
);
CREATE INDEX ci_pipelines_of_project ON ci_pipelines (project_id, id);
-- `options` is what the file says of the job, `needs` the jobs that it waits for (null: all of the stages before).
CREATE TABLE ci_jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  pipeline_id INTEGER NOT NULL REFERENCES ci_pipelines (id) ON DELETE CASCADE,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  user_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  name TEXT NOT NULL,
  stage TEXT NOT NULL,
  stage_index INTEGER NOT NULL,
  status TEXT NOT NULL DEFAULT 'created',
  run_when TEXT NOT NULL DEFAULT 'on_success',
  allow_failure INTEGER NOT NULL DEFAULT 0,
  options TEXT NOT NULL,
  variables TEXT NOT NULL DEFAULT '{}',
  tags TEXT NOT NULL DEFAULT '[]',
  needs TEXT,
  retried INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  timeout INTEGER NOT NULL,
  token_digest TEXT UNIQUE,
  runner_id INTEGER REFERENCES ci_runners (id) ON DELETE SET NULL,
  manager_id INTEGER REFERENCES ci_runner_managers (id) ON DELETE SET NULL,
  failure_reason TEXT,
  exit_code INTEGER,
  coverage REAL,
  dotenv TEXT NOT NULL DEFAULT '[]',
  created_at TEXT NOT NULL,
  scheduled_at TEXT,
  queued_at TEXT,
  started_at TEXT,
  seen_at TEXT,
  finished_at TEXT,
  erased_at TEXT
);
CREATE INDEX ci_jobs_of_pipeline ON ci_jobs (pipeline_id, id);
CREATE INDEX ci_jobs_by_status ON ci_jobs (status, id);
CREATE TABLE ci_artifacts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id INTEGER NOT NULL REFERENCES ci_jobs (id) ON DELETE CASCADE,
  file_type TEXT NOT NULL,
  file_format TEXT NOT NULL,
  filename TEXT NOT NULL,
  size INTEGER NOT NULL,
  expire_at TEXT,
  created_at TEXT NOT NULL,
  UNIQUE (job_id, file_type)
);
