-- What a second factor is made of, and since when somebody has been asked for one.
ALTER TABLE users ADD COLUMN otp_secret TEXT;
ALTER TABLE users ADD COLUMN otp_grace_period_started_at TEXT;
ALTER TABLE users ADD COLUMN consumed_timestep INTEGER;
-- Whether somebody has never chosen the password, because a provider of sign-in has brought them.
ALTER TABLE users ADD COLUMN password_automatically_set INTEGER NOT NULL DEFAULT 0;
-- Notes that administrators keep about users.
CREATE TABLE user_custom_attributes (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (user_id, key)
);
