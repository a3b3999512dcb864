-- `options` is what GitLab keeps beside: squash, labels, assignees, and how it is to be merged when it may be.
CREATE TABLE merge_requests (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  iid INTEGER NOT NULL,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  author_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  title TEXT NOT NULL,
  description TEXT,
  source_branch TEXT NOT NULL,
  target_branch TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'opened' CHECK (state IN ('opened', 'closed', 'merged')),
  options TEXT NOT NULL DEFAULT '{}',
  merge_commit_sha TEXT,
  squash_commit_sha TEXT,
  merge_user_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  merged_at TEXT,
  closed_by_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  closed_at TEXT,
  -- When its first pipeline was seen to; nothing until then.
  prepared_at TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  UNIQUE (project_id, iid)
);
-- One row a push to the source branch; the last one counts.
CREATE TABLE merge_request_diffs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  merge_request_id INTEGER NOT NULL REFERENCES merge_requests (id) ON DELETE CASCADE,
  head_sha TEXT NOT NULL,
  base_sha TEXT NOT NULL,
  start_sha TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE INDEX merge_request_diffs_of_one ON merge_request_diffs (merge_request_id, id);
CREATE TABLE notes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
  merge_request_id INTEGER NOT NULL REFERENCES merge_requests (id) ON DELETE CASCADE,
  author_id INTEGER REFERENCES users (id) ON DELETE SET NULL,
  body TEXT NOT NULL,
  system INTEGER NOT NULL DEFAULT 0,
  internal INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE INDEX notes_of_merge_request ON notes (merge_request_id, id);
ALTER TABLE ci_pipelines ADD COLUMN merge_request_id INTEGER REFERENCES merge_requests (id) ON DELETE SET NULL;
-- What the file says of `workflow:auto_cancel`.
ALTER TABLE ci_pipelines ADD COLUMN auto_cancel TEXT NOT NULL DEFAULT '{}';
