# frozen_string_literal: true

require 'json'
require 'securerandom'
require 'yaml'
require_relative 'external_database'
require_relative 'external_redis'
require_relative 'ldap'
require_relative 'object_store'
require_relative 'omniauth'
require_relative 'resources'
require_relative 'services'
require_relative 'smtp'

# The web application: its settings, its database with the first user in it, its service.
class Web
  HOME = '/var/opt/gitlab/gitlab-rails'
  GIT_DATA = '/var/opt/gitlab/git-data'
  # What the application reads at its start.
  FILES = ["#{HOME}/etc/gitlab.json", "#{HOME}/etc/secrets.json", Smtp::FILE].freeze
  PASSWORD_FILE = '/etc/gitlab/initial_root_password'
  PYTHON = ['/usr/bin/python3', '-P', '-m', 'gitlab_web'].freeze
  ENVIRONMENT = { 'PYTHONPATH' => '/opt/gitlab/embedded/service/gitlab-rails', 'PYTHONDONTWRITEBYTECODE' => '1' }.freeze

  attr_reader :notes

  def initialize(config, secrets)
    @config = config
    @secrets = secrets
    @objects = ObjectStore.new(config)
    @database = ExternalDatabase.new(config)
    @redis = ExternalRedis.new(config)
    @notes = []
  end

  def files
    Resources.directory(HOME, owner: 'git', mode: 0o711)
    Resources.directory("#{HOME}/etc", owner: 'git', mode: 0o700)
    Resources.directory("#{HOME}/db", owner: 'git', mode: 0o700)
    Resources.directory("#{HOME}/sockets", owner: 'git', group: 'gitlab-www', mode: 0o750)
    Resources.directory("#{HOME}/shared", mode: 0o751)
    Resources.directory("#{HOME}/shared/artifacts", owner: 'git', mode: 0o700)
    Resources.directory("#{HOME}/uploads", owner: 'git', mode: 0o700)
    settings_file, secrets_file, = FILES
    Resources.directory(GIT_DATA, owner: 'git', mode: 0o700)
    Resources.directory(backup_path, owner: 'git', mode: 0o700) unless
      @config.get('gitlab_rails', 'manage_backup_path') == false
    write_json(settings_file, settings)
    write_json(secrets_file, rails_secrets)
    Smtp.new(@config).write
  end

  # With `auto_migrate` false the database stays as it is, also without a table.
  def database
    forget_old_password
    return if @config.get('gitlab_rails', 'auto_migrate') == false

    as_git('migrate')
    Resources.did('rails_migration[gitlab-rails]', 'run', false)
    return if as_git('seeded').strip == 'yes'

    password, random = first_password
    as_git('seed', input: password)
    Resources.did('rails_migration[gitlab-rails] (first user)', 'run', true)
    store = @config.get('gitlab_rails', 'store_initial_root_password', default: random)
    store_password(password) if store
    describe(password, store)
  end

  def prepare
    Services.define('puma', 'puma_run.erb', { environment: ENVIRONMENT, python: PYTHON.join(' ') },
                     log_owner: 'git')
  end

  def start
    Services.enable('puma', *FILES)
  end

  private

  def settings
    {
      external_url: @config.external.to_s.chomp('/'), puma_port: @config.puma_port,
      data: "#{HOME}/db", database_server: @database.server,
      redis_server: @redis.server, socket: "#{HOME}/sockets/gitlab.socket",
      monitoring_allowlist: @config.get('gitlab_rails', 'monitoring_whitelist', default: Configuration::MONITORING),
      git_data: GIT_DATA, ssh_port: @config.get('gitlab_rails', 'gitlab_shell_ssh_port', default: 22),
      registry: @config.registry? ? registry : nil, backup_path:,
      backup_keep_time: @config.get('gitlab_rails', 'backup_keep_time', default: 0),
      registry_path: @config.get('gitlab_rails', 'registry_path', default: "#{HOME}/shared/registry"),
      artifacts_path: "#{HOME}/shared/artifacts", uploads_path: "#{HOME}/uploads", object_store: @objects.settings,
      time_zone: @config.get('gitlab_rails', 'time_zone', default: 'UTC'), email:,
      omniauth: Omniauth.new(@config).settings, ldap: Ldap.new(@config).settings,
      pipeline_schedule_worker_cron: @config.get('gitlab_rails', 'pipeline_schedule_worker_cron', default: nil),
      api_ci_long_polling_duration: @config.get('gitlab_workhorse', 'api_ci_long_polling_duration')&.to_s
    }
  end

  def email
    host = @config.external.host
    defaults = { 'enabled' => true, 'from' => "gitlab@#{host}", 'display_name' => 'GitLab',
                 'reply_to' => "noreply@#{host}", 'subject_suffix' => '' }
    # gitlab.yml has them without quotes, and the application reads what YAML makes of that.
    defaults.to_h do |key, default|
      [key, YAML.safe_load("- #{@config.get('gitlab_rails', "gitlab_email_#{key}", default:)}").first]
    end
  end

  def backup_path
    @config.get('gitlab_rails', 'backup_path', default: '/var/opt/gitlab/backups')
  end

  def registry
    { host: @config.registry_host, api_url: "http://#{@config.registry_address}",
      issuer: @config.get('gitlab_rails', 'registry_issuer', default: 'omnibus-gitlab-issuer') }
  end

  def rails_secrets
    rails = @secrets['gitlab_rails']
    { db_key_base: rails['db_key_base'], secret_key_base: rails['secret_key_base'],
      registry_key: @secrets['registry']['internal_key'], database_password: @database.password,
      redis_password: @redis.password }
      .compact.merge(@objects.secrets)
  end

  def write_json(path, values)
    Resources.file(path, "#{JSON.pretty_generate(values)}\n", owner: 'git', mode: 0o600)
  end

  def as_git(command, input: nil)
    Resources.run('runuser', '-u', 'git', '--', *PYTHON, command, env: ENVIRONMENT, input:,
                                                                 name: "gitlab-rails #{command}")
  end

  # The environment wins over gitlab.rb; without both it is random.
  def first_password
    given = ENV['GITLAB_ROOT_PASSWORD'] || @config.get('gitlab_rails', 'initial_root_password')
    given ? [given, false] : [SecureRandom.base64(32), true]
  end

  def store_password(password)
    Resources.file(PASSWORD_FILE, <<~TEXT, mode: 0o600)
      # WARNING: This value is valid only until the password of root is changed. It does not change the password.
      # This file is removed by the first reconfigure that runs more than 24 hours after it was made.

      Password: #{password}
    TEXT
  end

  def forget_old_password
    return unless File.exist?(PASSWORD_FILE) && Time.now - File.mtime(PASSWORD_FILE) > Configuration::DAY

    Resources.delete(PASSWORD_FILE)
  end

  def describe(password, stored)
    shown = @config.get('gitlab_rails', 'display_initial_root_password', default: false)
    text = shown ? password : "You didn't opt-in to print initial root password to STDOUT."
    @notes = ['', 'Notes:', 'Default admin account has been configured with following details:', 'Username: root',
              "Password: #{text}"]
    return unless stored

    @notes << "Password stored to #{PASSWORD_FILE}. This file will be cleaned up in first reconfigure run after " \
              '24 hours.'
  end
end
