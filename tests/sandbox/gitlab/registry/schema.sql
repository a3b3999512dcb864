-- The metadata database. Tables and triggers have the names of the real one (PostgreSQL), without its partitions.

CREATE TABLE gc_settings (review_after REAL NOT NULL);
INSERT INTO gc_settings VALUES (86400);

CREATE TABLE repositories (
  id INTEGER PRIMARY KEY,
  path TEXT NOT NULL UNIQUE,
  created_at TEXT NOT NULL,
  updated_at TEXT,
  last_published_at TEXT
);

CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_at TEXT NOT NULL);

CREATE TABLE repository_blobs (
  repository_id INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
  digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
  PRIMARY KEY (repository_id, digest)
);

CREATE TABLE manifests (
  id INTEGER PRIMARY KEY,
  repository_id INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
  digest TEXT NOT NULL,
  media_type TEXT NOT NULL,
  payload BLOB NOT NULL,
  total_size INTEGER NOT NULL,
  config_digest TEXT,
  config_media_type TEXT,
  subject_id INTEGER REFERENCES manifests ON DELETE CASCADE,
  artifact_type TEXT,
  created_at TEXT NOT NULL,
  UNIQUE (repository_id, digest)
);

CREATE TABLE layers (
  manifest_id INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
  digest TEXT NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (manifest_id, digest)
);
CREATE INDEX layers_by_digest ON layers (digest);

CREATE TABLE manifest_references (
  parent_id INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
  child_id INTEGER NOT NULL REFERENCES manifests,
  PRIMARY KEY (parent_id, child_id)
);

CREATE TABLE tags (
  repository_id INTEGER NOT NULL REFERENCES repositories ON DELETE CASCADE,
  name TEXT NOT NULL,
  manifest_id INTEGER NOT NULL REFERENCES manifests ON DELETE CASCADE,
  created_at TEXT NOT NULL,
  updated_at TEXT,
  PRIMARY KEY (repository_id, name)
);

-- What the garbage collector looks at, once the time has come. Only an event puts something here.
CREATE TABLE gc_manifest_review_queue (
  manifest_id INTEGER PRIMARY KEY REFERENCES manifests ON DELETE CASCADE,
  review_after REAL NOT NULL,
  event TEXT NOT NULL
);
CREATE TABLE gc_blob_review_queue (digest TEXT PRIMARY KEY, review_after REAL NOT NULL, event TEXT NOT NULL);

CREATE VIEW gc_review_after (value) AS
  SELECT (julianday('now') - 2440587.5) * 86400 + review_after FROM gc_settings;

-- An INSERT OR REPLACE would do as the statement does that has fired the trigger, and not replace.
CREATE TRIGGER gc_track_blob_uploads AFTER INSERT ON blobs BEGIN
  DELETE FROM gc_blob_review_queue WHERE digest = new.digest;
  INSERT INTO gc_blob_review_queue SELECT new.digest, value, 'blob_upload' FROM gc_review_after;
END;
CREATE TRIGGER gc_track_manifest_uploads AFTER INSERT ON manifests BEGIN
  INSERT INTO gc_manifest_review_queue SELECT new.id, value, 'manifest_upload' FROM gc_review_after;
END;
CREATE TRIGGER gc_track_deleted_manifests BEFORE DELETE ON manifests BEGIN
  DELETE FROM gc_blob_review_queue
    WHERE digest = old.config_digest OR digest IN (SELECT digest FROM layers WHERE manifest_id = old.id);
  INSERT INTO gc_blob_review_queue SELECT digest, value, 'manifest_delete' FROM gc_review_after, (
    SELECT old.config_digest AS digest WHERE old.config_digest IS NOT NULL
    UNION SELECT digest FROM layers WHERE manifest_id = old.id
  );
  DELETE FROM gc_manifest_review_queue WHERE manifest_id = old.subject_id
    OR manifest_id IN (SELECT child_id FROM manifest_references WHERE parent_id = old.id);
  INSERT INTO gc_manifest_review_queue SELECT id, value, 'manifest_delete' FROM manifests, gc_review_after
    WHERE id = old.subject_id OR id IN (SELECT child_id FROM manifest_references WHERE parent_id = old.id);
END;
CREATE TRIGGER gc_track_deleted_tags AFTER DELETE ON tags BEGIN
  DELETE FROM gc_manifest_review_queue WHERE manifest_id = old.manifest_id;
  INSERT INTO gc_manifest_review_queue
    SELECT id, value, 'tag_delete' FROM manifests, gc_review_after WHERE id = old.manifest_id;
END;
CREATE TRIGGER gc_track_switched_tags AFTER UPDATE OF manifest_id ON tags WHEN old.manifest_id <> new.manifest_id BEGIN
  DELETE FROM gc_manifest_review_queue WHERE manifest_id = old.manifest_id;
  INSERT INTO gc_manifest_review_queue SELECT old.manifest_id, value, 'tag_switch' FROM gc_review_after;
END;
