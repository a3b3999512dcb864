# frozen_string_literal: true

require_relative 'distribution'
require_relative 'letsencrypt'
require_relative 'registry'
require_relative 'services'

# gitlab-ctl registry-database: the registry's own commands for its metadata database, run as its user.
class RegistryDatabase
  USAGE = 'Usage: gitlab-ctl registry-database migrate up | import [--step-one|--step-two|--step-three] [--log-to-stdout]'
  # Options of an import during which nobody may push.
  READ_ONLY = %w[-2 --step-two -r --all-repositories].freeze

  def initialize(ctl)
    @ctl = ctl
  end

  def call(arguments)
    return fail_with('Container registry is not enabled, exiting...') unless Services.enabled.include?('registry')

    command, *options = arguments
    return fail_with(USAGE, 128) unless command == 'import' || arguments[0, 2] == %w[migrate up]

    puts "Running #{command} #{options.first}"
    if (options & READ_ONLY).any? && !read_only?
      return fail_with('Command requires the container registry to be in read-only mode. Exiting...')
    end

    run(arguments)
  end

  private

  def run(arguments)
    environment = { 'SSL_CERT_FILE' => LetsEncrypt::BUNDLE }
    command = [*Distribution::REGISTRY, 'database', *arguments, "#{Registry::HOME}/config.yml"]
    system(environment, 'chpst', '-u', 'registry:registry', *command, chdir: Registry::HOME) ? 0 : 1
  ensure
    @ctl.service('start', 'registry')
  end

  def read_only?
    document = Distribution.read("#{Registry::HOME}/config.yml")
    document.dig('storage', 'maintenance', 'readonly', 'enabled') == true
  end

  def fail_with(message, code = 1)
    warn message
    code
  end
end
