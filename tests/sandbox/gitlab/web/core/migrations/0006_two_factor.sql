-- Whether signing in needs a second factor.
ALTER TABLE users ADD COLUMN otp_required_for_login INTEGER NOT NULL DEFAULT 0;
