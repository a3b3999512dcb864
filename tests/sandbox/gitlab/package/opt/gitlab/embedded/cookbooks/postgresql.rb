# frozen_string_literal: true

require_relative 'external_database'
require_relative 'resources'
require_relative 'services'

# The bundled PostgreSQL: its cluster, its settings, who may be whom, its service, the databases of GitLab's parts.
class Postgresql
  HOME = ExternalDatabase::BUNDLED
  DATA = "#{HOME}/data"
  BIN = '/opt/gitlab/embedded/bin'
  ACCOUNT = 'gitlab-psql'
  RC = '/opt/gitlab/etc/gitlab-psql-rc'
  # Loaded by the superuser, because GitLab's own role may not. Nothing in GitLab's tables needs amcheck.
  EXTENSIONS = %w[pg_trgm btree_gist amcheck citext].freeze
  # Names come from gitlab.rb: PostgreSQL quotes them itself.
  ROLE = <<~'SQL'
    SELECT format('CREATE ROLE %I LOGIN', :'owner')
      WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
  SQL
  DATABASE = <<~'SQL'
    SELECT format('CREATE DATABASE %I OWNER %I', :'name', :'owner')
      WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \gexec
  SQL

  def initialize(config)
    @config = config
    @enabled = !ExternalDatabase.new(config).external?
  end

  def prepare
    # Also for a server that does not run: gitlab-psql then says so.
    Resources.directory(File.dirname(RC))
    Resources.template(RC, 'gitlab-psql-rc.erb', { host: HOME, port:, name: database })
    return Services.disable('postgresql') unless @enabled

    Resources.directory(HOME, owner: ACCOUNT, group: ACCOUNT)
    cluster
    files
    Services.define('postgresql', 'postgresql_run.erb', { data: DATA }, controls: ['t'])
  end

  # It runs whatever somebody has stopped: all that follows needs it.
  def start
    return unless @enabled

    Services.enable('postgresql', "#{DATA}/postgresql.conf", always: true)
    ready = ["#{BIN}/pg_isready", '--quiet', '--host', HOME, '--port', port.to_s]
    Resources.wait_for('postgresql (see /var/log/gitlab/postgresql/current)', 60) { system(*ready) }
    ensure_database(database, owner: user, extensions: EXTENSIONS)
  end

  # Makes a database and the role that owns it, unless they are there.
  def ensure_database(name, owner:, extensions: [])
    load = extensions.map { |extension| "CREATE EXTENSION IF NOT EXISTS #{extension};\n" }
    script = [ROLE, DATABASE, *("\\connect :name\n" unless load.empty?), *load].join
    command = ["#{BIN}/psql", '--no-psqlrc', '--quiet', '--set', 'ON_ERROR_STOP=1', '--set', "name=#{name}",
               '--set', "owner=#{owner}", '--host', HOME, '--port', port.to_s, '--dbname', 'template1']
    as_account(*command, input: "SET client_min_messages = warning;\n#{script}", name: "postgresql_database[#{name}]")
    Resources.did("postgresql_database[#{name}]", 'create', false)
  end

  private

  # Beside its place until it is complete: what an interrupted initdb leaves is no cluster, and looks like one.
  def cluster
    return Resources.directory(DATA, owner: ACCOUNT, group: ACCOUNT, mode: 0o700) if File.exist?("#{DATA}/PG_VERSION")

    unfinished = "#{DATA}.initdb"
    FileUtils.rm_rf(unfinished)
    as_account("#{BIN}/initdb", '--pgdata', unfinished, '--encoding', 'UTF8', '--locale', 'C.UTF-8', '--auth', 'peer',
               '--no-sync', name: 'initdb')
    File.rename(unfinished, DATA)
    Resources.did('execute[initdb]', 'run', true)
  rescue Errno::ENOTEMPTY
    raise Resources::Failure, "initdb: directory \"#{DATA}\" exists but is not empty, and is no cluster of PostgreSQL"
  end

  def files
    template('postgresql.conf', mode: 0o644, setting: method(:setting), home: HOME, port:)
    changed = [template('pg_hba.conf'), template('pg_ident.conf', user:)].any?
    Services.hup('postgresql') if changed && Services.up?('postgresql')
  end

  def template(name, mode: 0o600, **values)
    Resources.template("#{DATA}/#{name}", "#{name}.erb", values, owner: ACCOUNT, group: ACCOUNT, mode:)
  end

  def setting(key, default = nil)
    @config.get('postgresql', key, default:)
  end

  def port
    setting('port', 5432)
  end

  def user
    @config.get('gitlab_rails', 'db_username', default: 'gitlab')
  end

  def database
    @config.get('gitlab_rails', 'db_database', default: 'gitlabhq_production')
  end

  def as_account(*command, **options)
    Resources.run('chpst', '-u', "#{ACCOUNT}:#{ACCOUNT}", *command, **options)
  end
end
