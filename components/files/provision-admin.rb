# Sets the administrator's password and creates an API token. Reads from standard input, one per line: user name,
# password, and the token's name, scopes, expiry date and text. Idempotent.
username, password, name, scopes, expires_at, text = $stdin.each_line(chomp: true).to_a

# A new GitLab lets everybody sign up. The cloud firewall opens its port only after this step.
if Gitlab::CurrentSettings.signup_enabled?
  Gitlab::CurrentSettings.update!(signup_enabled: false)
end

user = User.find_by_username(username)
unless user.valid_password?(password)
  user.password = password
  user.password_confirmation = password
  user.save!
end

unless PersonalAccessToken.find_by_token(text)
  token = user.personal_access_tokens.build(name: name, scopes: scopes.split, expires_at: Date.parse(expires_at))
  token.set_token(text)
  token.save!
end

# The previous period's token stays valid until the stack has switched to the new one; older ones are revoked.
prefix, period = name.match(/\A(.*-)(\d+)\z/).captures
kept = ["#{prefix}#{period}", "#{prefix}#{period.to_i - 1}"]
user.personal_access_tokens.active.each do |token|
  token.revoke! if token.name.start_with?(prefix) && !kept.include?(token.name)
end
