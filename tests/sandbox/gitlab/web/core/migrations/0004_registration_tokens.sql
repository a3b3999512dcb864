-- With which runners register the old way. Of a project, of a group, or (neither) of the instance.
CREATE TABLE registration_tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  project_id INTEGER REFERENCES projects (id) ON DELETE CASCADE,
  namespace_id INTEGER REFERENCES namespaces (id) ON DELETE CASCADE,
  token_digest TEXT NOT NULL UNIQUE,
  encrypted_token TEXT NOT NULL
);
CREATE UNIQUE INDEX registration_tokens_of_owner ON registration_tokens (IFNULL(project_id, 0), IFNULL(namespace_id, 0));
