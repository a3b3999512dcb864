# Sets the administrator's password, creates an API token, and applies settings. Reads from standard input, one per line:
# user name, password, the token's name (prefix, machine and period), scopes, expiry date and text, and the settings as
# JSON. Idempotent. What an administrator has changed by hand is named; a password of theirs stays.
username, password, name, scopes, expires_at, text, settings = $stdin.each_line(chomp: true).to_a

# A new GitLab lets everybody sign up. The cloud firewall opens its port only after this step.
if Gitlab::CurrentSettings.signup_enabled?
  Gitlab::CurrentSettings.update!(signup_enabled: false)
end

user = User.find_by_username(username)
unless user
  first = User.find_by(id: 1)
  found = first ? "user 1 is now called #{first.username}" : 'user 1 was deleted'
  abort "error: GitLab has no user #{username} any more: #{found}. The stack acts as #{username}: give an administrator " \
        'that name in Admin > Users, then run pulumi up again'
end
unless user.active?
  abort "error: #{username} is #{user.state} in GitLab, and the stack acts as #{username}. Unblock or activate the user " \
        'in Admin > Users, then run pulumi up again'
end
unless user.admin?
  abort "error: #{username} is no administrator in GitLab any more, and the stack acts as #{username}. Give the user the " \
        'access level back in Admin > Users, then run pulumi up again'
end

apply_application_settings(JSON.parse(settings), user)

prefix, machine, period = name.match(/\A(.*)-(\d+)-(\d+)\z/).captures
# Earlier versions left the machine out.
own = /\A#{Regexp.escape(prefix)}-(\d+-)?\d+\z/

# Without a token of an earlier run, it is still the password that GitLab was installed with.
if user.valid_password?(password)
  # As declared.
elsif user.personal_access_tokens.any? { |each_token| own.match?(each_token.name) }
  warn "gitlab: the password of #{username} was changed in GitLab and stays; the stack's output " \
       'gitlab_admin_password is not valid'
else
  user.password = password
  user.password_confirmation = password
  user.save!
end
if user.two_factor_enabled?
  warn "gitlab: #{username} has two-factor authentication: docker login needs a personal access token as the password"
end

token = PersonalAccessToken.find_by_token(text)
if token && !token.active?
  abort "error: the stack's API token was #{token.revoked? ? 'revoked in GitLab' : 'created for a date that has passed'}. " \
        'Replace it with: pulumi up --replace URN of gitlab-api-token-digits'
end
if token
  token.update!(name: name) unless token.name == name
else
  token = user.personal_access_tokens.build(name: name, scopes: scopes.split, expires_at: Date.parse(expires_at))
  token.set_token(text)
  token.save!
end

# The previous period's token stays valid until the stack has switched to the new one. Older ones are revoked, and so are
# those of an earlier machine: no state has them any more.
previous = "#{prefix}-#{machine}-#{period.to_i - 1}"
user.personal_access_tokens.active.each do |each_token|
  kept = each_token.id == token.id || each_token.name == previous
  each_token.revoke! if own.match?(each_token.name) && !kept
end
