-- The user of a project access token.
ALTER TABLE users ADD COLUMN bot_of_project INTEGER REFERENCES projects (id) ON DELETE CASCADE;
ALTER TABLE projects ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
-- `name` is a branch or a pattern with `*`; levels are access levels, 0 for nobody, 60 for administrators.
CREATE TABLE protected_branches (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  push_level INTEGER NOT NULL,
  merge_level INTEGER NOT NULL,
  allow_force_push INTEGER NOT NULL DEFAULT 0,
  UNIQUE (project_id, name)
);
CREATE TABLE protected_tags (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  create_level INTEGER NOT NULL,
  UNIQUE (project_id, name)
);
-- Of a project, of a group, or (neither) of the instance. Values are encrypted.
CREATE TABLE variables (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER REFERENCES projects (id) ON DELETE CASCADE,
  namespace_id INTEGER REFERENCES namespaces (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  encrypted_value TEXT NOT NULL,
  variable_type TEXT NOT NULL DEFAULT 'env_var',
  protected INTEGER NOT NULL DEFAULT 0,
  masked INTEGER NOT NULL DEFAULT 0,
  hidden INTEGER NOT NULL DEFAULT 0,
  raw INTEGER NOT NULL DEFAULT 0,
  environment_scope TEXT NOT NULL DEFAULT '*',
  description TEXT
);
CREATE UNIQUE INDEX variables_of_owner
  ON variables (IFNULL(project_id, 0), IFNULL(namespace_id, 0), key, environment_scope);
-- Of a project or of a group. The token itself is kept, encrypted, only for the one that jobs are told.
CREATE TABLE deploy_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER REFERENCES projects (id) ON DELETE CASCADE,
  namespace_id INTEGER REFERENCES namespaces (id) ON DELETE CASCADE,
  creator_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  name TEXT NOT NULL,
  username TEXT,
  scopes TEXT NOT NULL,
  token_digest TEXT NOT NULL UNIQUE,
  encrypted_token TEXT,
  expires_at TEXT,
  revoked INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL
);
