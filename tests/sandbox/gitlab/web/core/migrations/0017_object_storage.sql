-- Where files are: 1 on this machine, 2 in object storage, as GitLab counts (`ObjectStorage::Store`); and under which name.
ALTER TABLE ci_artifacts ADD COLUMN file_store INTEGER NOT NULL DEFAULT 1;
ALTER TABLE ci_artifacts ADD COLUMN path TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN store INTEGER NOT NULL DEFAULT 1;
ALTER TABLE uploads ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN path TEXT NOT NULL DEFAULT '';
