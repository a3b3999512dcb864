# frozen_string_literal: true

require_relative 'letsencrypt'

# Where GitLab keeps sessions and queues: in the bundled Redis, or with `redis['enable'] = false` in one outside.
class ExternalRedis
  def initialize(config)
    @config = config
  end

  def external?
    @config.get('redis', 'enable') == false
  end

  # How the application reaches it, without the password; nil for the bundled one.
  def server
    return unless external?

    # Without a host, GitLab looks for the socket of the bundled one, which is not there.
    raise ConfigError, 'No such file or directory - connect(2) for /var/opt/gitlab/redis/redis.socket' unless get('host')

    # The package's own bundle and folder of authorities, unless another file is named.
    { host: get('host'), port: get('port', 6379).to_i, ssl: get('ssl', false),
      ca_file: get('tls_ca_cert_file', LetsEncrypt::BUNDLE), username: get('username') }
  end

  def password
    get('password').to_s if external?
  end

  private

  def get(key, default = nil)
    @config.get('gitlab_rails', "redis_#{key}", default:)
  end
end
