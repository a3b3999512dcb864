# Makes what is read on standard input true, line by line: user, password, and the name, scopes, end and text of a token.
# Run again with the same input it changes nothing.
username, password, name, scopes, expires_at, text = $stdin.each_line(chomp: true).to_a

# GitLab begins with sign-up open to everybody. The cloud firewall opens its port when this has been done.
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

# The token of the period before is in use until the one who runs this has the new one; older ones are not.
prefix, period = name.match(/\A(.*-)(\d+)\z/).captures
kept = ["#{prefix}#{period}", "#{prefix}#{period.to_i - 1}"]
user.personal_access_tokens.active.each do |token|
  token.revoke! if token.name.start_with?(prefix) && !kept.include?(token.name)
end
