-- Filled by the background migration BackfillProjectsPathDigest.
ALTER TABLE projects ADD COLUMN path_digest TEXT;
