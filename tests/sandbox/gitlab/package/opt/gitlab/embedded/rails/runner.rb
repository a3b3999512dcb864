# frozen_string_literal: true

# gitlab-rails runner <file | code | ->: Ruby over the database of the stand-in, with the few models that setting up a
# GitLab needs. What a model lacks raises NoMethodError, as a misspelt name does in the real one.

require_relative 'models'
require_relative 'deploy_tokens'
require_relative 'background_migrations'
require_relative 'uploads'

autoload :Notify, File.join(__dir__, 'mailer.rb')

usage = 'usage: gitlab-rails runner [-e production] <file | code | -> [arguments]'
ARGV.shift # runner
while %w[-e --environment].include?(ARGV.first)
  ARGV.shift
  abort "gitlab-rails: there is no environment #{ARGV.first}" unless ARGV.shift == 'production'
end
source = ARGV.shift or abort usage
begin
  if source == '-'
    eval($stdin.read, TOPLEVEL_BINDING, 'stdin') # rubocop:disable Security/Eval
  elsif File.file?(source)
    $0 = source
    load source
  elsif source.end_with?('.rb') && !source.include?(' ')
    abort "Please specify a valid ruby command or the path of a script to run. File #{source} is not readable."
  else
    eval(source, TOPLEVEL_BINDING, 'runner') # rubocop:disable Security/Eval
  end
rescue ActiveRecord::ActiveRecordError, NoMethodError, NameError => e
  # Only where and what: the code itself can hold a secret.
  warn "#{e.backtrace.first}: #{e.message.lines.first.strip} (#{e.class})"
  exit 1
end
