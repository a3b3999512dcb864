CREATE INDEX index_users_on_username_digest ON users (username_digest);
