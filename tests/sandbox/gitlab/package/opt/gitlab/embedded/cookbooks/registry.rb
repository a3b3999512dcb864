# frozen_string_literal: true

require_relative 'external_database'
require_relative 'distribution'
require_relative 'postgresql'
require_relative 'resources'
require_relative 'services'

# The container registry: its configuration in the form that GitLab's own registry reads. The program at
# /opt/gitlab/embedded/bin/registry turns it into what the Docker distribution reads.
class Registry
  HOME = '/var/opt/gitlab/registry'
  # What the registry reads at its start.
  FILES = ["#{HOME}/gitlab-registry.crt", "#{HOME}/config.yml"].freeze

  def initialize(config, secrets)
    @config = config
    @secrets = secrets.fetch('registry')
  end

  def prepare
    return Services.disable('registry') unless @config.registry?

    Resources.directory(HOME, owner: 'registry', mode: 0o750)
    shared = '/var/opt/gitlab/gitlab-rails/shared'
    Resources.directory(shared, mode: 0o751)
    Resources.directory("#{shared}/registry", owner: 'registry', group: 'git', mode: 0o2770) if storage.key?('filesystem')
    files
    database_objects
    Services.define('registry', 'registry_run.erb', { env: @config.get('registry', 'env', default: {}) },
                    log_owner: 'registry', mode: 0o700)
  end

  # The real package makes the database whether it is used or not; its tables only where it is.
  def database_objects
    bundled = !outside? && database['host'] == Postgresql::HOME
    Postgresql.new(@config).ensure_database(database['dbname'], owner: database['user']) if bundled
    return if database['enabled'].to_s == 'false' || setting('auto_migrate', default: true) == false

    command = [*Distribution::REGISTRY, 'database', 'migrate', 'up', "#{HOME}/config.yml"]
    Resources.run('chpst', '-u', 'registry', *command, name: 'registry_database_migrations[registry]')
  end

  def start
    Services.enable('registry', *FILES) if @config.registry?
  end

  private

  def outside?
    ExternalDatabase.new(@config).external?
  end

  def files
    certificate, settings = FILES
    Resources.file(certificate, @secrets['internal_certificate'], owner: 'registry', mode: 0o400)
    Resources.file(settings, "#{JSON.pretty_generate(document)}\n", owner: 'registry', mode: 0o600)
  end

  def setting(*keys, default: nil)
    @config.get('registry', *keys, default:)
  end

  def storage
    @storage ||= begin
      given = setting('storage', default: {})
      drivers = given.keys - %w[maintenance cache delete redirect]
      given = given.merge('filesystem' => { 'rootdirectory' => path }) if drivers.empty?
      { 'cache' => { 'blobdescriptor' => 'inmemory' },
        'delete' => { 'enabled' => setting('storage_delete_enabled', default: true) } }.merge(given)
    end
  end

  def path
    @config.get('gitlab_rails', 'registry_path', default: '/var/opt/gitlab/gitlab-rails/shared/registry')
  end

  # JSON is YAML too.
  def document
    {
      'version' => 0.1,
      'log' => { 'level' => setting('log_level', default: 'info'),
                 'formatter' => setting('log_formatter', default: 'text'),
                 'fields' => { 'service' => 'registry' } },
      'storage' => storage,
      'http' => http,
      'auth' => { 'token' => token },
      'health' => { 'storagedriver' => { 'enabled' => setting('health_storagedriver_enabled', default: true),
                                         'interval' => '10s', 'threshold' => 3 } },
      'notifications' => notifications,
      'database' => database, 'gc' => setting('gc')
    }.compact
  end

  def http
    { 'addr' => @config.registry_address, 'host' => "#{@config.registry.scheme}://#{@config.registry_host}",
      'secret' => @secrets['http_secret'], 'headers' => { 'X-Content-Type-Options' => ['nosniff'] },
      'debug' => setting('debug_addr') && { 'addr' => setting('debug_addr') } }.compact
  end

  def token
    external = @config.external.to_s.chomp('/')
    { 'realm' => "#{setting('token_realm', default: external)}/jwt/auth", 'service' => 'container_registry',
      'issuer' => @config.get('gitlab_rails', 'registry_issuer', default: 'omnibus-gitlab-issuer'),
      'rootcertbundle' => "#{HOME}/gitlab-registry.crt", 'autoredirect' => setting('autoredirect', default: false) }
  end

  def notifications
    endpoints = setting('notifications')
    endpoints && { 'endpoints' => endpoints }
  end

  def database
    given = setting('database', default: {})
    enabled = given.fetch('enabled', 'prefer')
    raise ConfigError, "registry['database']['enabled'] is true, false or 'prefer', not #{enabled.inspect}" unless
      %w[true false prefer].include?(enabled.to_s)

    # The real package does so with a warning: what it would prefer is its own server, which does not run.
    enabled = 'false' if enabled.to_s == 'prefer' && outside?
    { 'user' => 'registry', 'dbname' => 'registry', 'port' => 5432, 'sslmode' => 'prefer', 'host' => Postgresql::HOME }
      .merge(given, 'enabled' => enabled)
  end
end
