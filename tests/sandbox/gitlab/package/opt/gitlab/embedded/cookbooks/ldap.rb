# frozen_string_literal: true

require_relative 'configuration'

# Sign-in through directories: the keys gitlab_rails['ldap_…'], as the package hands them on.
class Ldap
  # What the application fills in (config/initializers/1_settings.rb).
  DEFAULTS = { 'label' => 'LDAP', 'timeout' => 10, 'encryption' => 'plain', 'verify_certificates' => true,
               'block_auto_created_users' => false, 'active_directory' => true, 'uid' => 'uid' }.freeze
  # Other words for the encryption were dropped in GitLab 10.
  ENCRYPTIONS = %w[simple_tls start_tls plain].freeze

  def initialize(config)
    @config = config
    settings['servers'].each_value { |server| check(server) }
  end

  def settings
    enabled = get('ldap_enabled', false) && !get('prevent_ldap_sign_in', false)
    given = enabled ? get('ldap_servers', {}) : {}
    { 'servers' => given.to_h { |name, server| [name, DEFAULTS.merge(server.transform_keys(&:to_s).compact)] } }
  end

  private

  def get(key, default)
    @config.get('gitlab_rails', key, default:)
  end

  def check(server)
    return if ENCRYPTIONS.include?(server['encryption'].to_s)

    raise ConfigError, "gitlab_rails['ldap_servers']: unknown encryption #{server['encryption'].inspect}. " \
                       "Valid ones are: #{ENCRYPTIONS.join(', ')}"
  end
end
