# Prints the values of the stack's deploy tokens as a JSON object by their IDs. Reads the IDs from standard input, one a
# line: the ID of the project, a colon and the token's own.
#
# GitLab's API shows the value of a token once, when it is created. On a volume that is used again there is the token of an
# earlier life of the stack, which only machines know that pull with it. Its value moves to the token of this life, and the
# earlier one is deleted; one that was revoked or has expired stays what it is. Idempotent.
require 'json'

values = $stdin.each_line(chomp: true).to_h do |line|
  project_id, id = line.split(':').map(&:to_i)
  tokens = Project.find(project_id).deploy_tokens.to_a
  token = tokens.find { |each_token| each_token.id == id }
  unless token&.active?
    abort "error: deploy token #{id} of project #{project_id} was #{token ? 'revoked' : 'deleted'} in GitLab. To create " \
          'another one, run: pulumi up --replace URN of its deploy-token'
  end

  same = ->(other) { [other.name, other.username, other.scopes] == [token.name, token.username, token.scopes] }
  earlier = tokens.select { |other| other.id != id && other.active? && same.call(other) }.sort_by(&:id)
  if (value = earlier.last&.token)
    ActiveRecord::Base.transaction do
      # Two tokens cannot have the same value.
      earlier.each(&:destroy!)
      token.set_token(value)
      token.save!
    end
  end
  [line, token.token]
end
puts JSON.generate(values)
