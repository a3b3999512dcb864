# frozen_string_literal: true

# Where GitLab keeps its tables: in the bundled database, or with `postgresql['enable'] = false` in a server outside.
class ExternalDatabase
  SSLMODES = %w[disable allow prefer require verify-ca verify-full].freeze

  def initialize(config)
    @config = config
  end

  def external?
    @config.get('postgresql', 'enable') == false
  end

  # How the application reaches the server, without the password; nil for the bundled database.
  def server
    return unless external?

    refuse_what_rails_would
    { host: get('db_host'), port: get('db_port', 5432).to_i, user: get('db_username', 'gitlab'),
      dbname: get('db_database', 'gitlabhq_production'), sslmode: get('db_sslmode', 'prefer'),
      sslrootcert: get('db_sslrootcert') }
  end

  def password
    get('db_password').to_s if external?
  end

  private

  def get(key, default = nil)
    @config.get('gitlab_rails', key, default:)
  end

  # Without a host, Rails looks for the socket of the bundled server, which is not there.
  def refuse_what_rails_would
    unless get('db_host')
      raise ConfigError, 'connection to server on socket "/var/opt/gitlab/postgresql/.s.PGSQL.5432" failed: ' \
                         'No such file or directory'
    end
    mode = get('db_sslmode')
    return if mode.nil? || SSLMODES.include?(mode)

    raise ConfigError, "invalid sslmode value: \"#{mode}\""
  end
end
