# frozen_string_literal: true

# Where GitLab keeps its tables: in the bundled PostgreSQL, or with `postgresql['enable'] = false` in a server outside.
class ExternalDatabase
  # The folder of the bundled server, and of its socket.
  BUNDLED = '/var/opt/gitlab/postgresql'
  SSLMODES = %w[disable allow prefer require verify-ca verify-full].freeze

  def initialize(config)
    @config = config
  end

  def external?
    @config.get('postgresql', 'enable') == false
  end

  # How the application reaches the server, without the password. What is named wins, as in the real package; without a
  # host it is the bundled one's socket, also where that server does not run.
  def server
    refuse_what_rails_would
    { host: get('db_host', BUNDLED), port: get('db_port', @config.get('postgresql', 'port', default: 5432)).to_i,
      user: get('db_username', 'gitlab'), dbname: get('db_database', 'gitlabhq_production'),
      sslmode: get('db_sslmode', 'prefer'), sslrootcert: get('db_sslrootcert') }
  end

  def password
    get('db_password')&.to_s
  end

  private

  def get(key, default = nil)
    @config.get('gitlab_rails', key, default:)
  end

  def refuse_what_rails_would
    mode = get('db_sslmode')
    return if mode.nil? || SSLMODES.include?(mode)

    raise ConfigError, "invalid sslmode value: \"#{mode}\""
  end
end
