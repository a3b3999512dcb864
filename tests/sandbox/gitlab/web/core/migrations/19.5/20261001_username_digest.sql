-- Filled by the background migration BackfillUsersUsernameDigest.
ALTER TABLE users ADD COLUMN username_digest TEXT;
