-- Levels are names, as the API has them. A rule for repositories may lack one of the two.
CREATE TABLE container_tag_rules (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  pattern TEXT NOT NULL,
  push_level TEXT NOT NULL,
  delete_level TEXT NOT NULL,
  UNIQUE (project_id, pattern)
);
CREATE TABLE container_repository_rules (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  pattern TEXT NOT NULL,
  push_level TEXT,
  delete_level TEXT,
  UNIQUE (project_id, pattern)
);
