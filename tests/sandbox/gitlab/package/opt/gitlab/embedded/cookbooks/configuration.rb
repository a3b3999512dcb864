# frozen_string_literal: true

require 'json'
require 'openssl'
require 'socket'
require 'uri'
require_relative 'settings'

# What the settings of gitlab.rb come to: addresses, ports, certificates, which services run.
class Configuration
  FILE = '/etc/gitlab/gitlab.rb'
  SSL_DIR = '/etc/gitlab/ssl'
  WWWROOT = '/var/opt/gitlab/nginx/www'
  MONITORING = ['127.0.0.0/8', '::1/128'].freeze
  DAY = 86_400
  # Of every server of the package's nginx (omnibus-gitlab, cookbook nginx, nginx_helper.rb).
  TLS = {
    'ssl_ciphers' => 'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:' \
                     'ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:' \
                     'DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384',
    'ssl_protocols' => 'TLSv1.2 TLSv1.3',
    'ssl_prefer_server_ciphers' => 'off',
    'ssl_session_cache' => 'shared:SSL:10m',
    'ssl_session_tickets' => 'off',
    'ssl_session_timeout' => '1d'
  }.freeze
  HSTS_SECONDS = 63_072_000

  attr_reader :values, :deprecations, :external, :registry

  def self.read(path = FILE, secrets: {})
    settings = Settings.new
    settings.from_file(path)
    new(settings.finish, settings.deprecations, secrets)
  end

  def initialize(values, deprecations = [], secrets = {})
    @values = values
    @deprecations = deprecations
    @secrets = secrets
    @external = url('external_url') || URI("http://#{Socket.gethostname}")
    refuse_what_is_not_carried
    @registry = registry_url
    check_registry
  end

  def get(section, *keys, default: nil)
    value = @values.dig(section, *keys)
    value.nil? ? default : value
  end

  def https?
    @external.scheme == 'https'
  end

  def registry?
    get('registry', 'enable', default: !@registry.nil?) && !@registry.nil?
  end

  def registry_host
    default_port = @registry.port == @registry.default_port
    default_port ? @registry.host : "#{@registry.host}:#{@registry.port}"
  end

  def registry_address
    get('registry', 'registry_http_addr', default: '127.0.0.1:5000')
  end

  def registry_port
    get('registry', 'nginx', 'listen_port', default: @registry.port)
  end

  def puma_port
    get('puma', 'port', default: 8080)
  end

  # Off unless it is asked for: it is the recipe of Let's Encrypt that turns it on.
  def nginx_options
    { 'client_max_body_size' => '250m', 'redirect_http_to_https' => letsencrypt? || false,
      'redirect_http_to_https_port' => 80, 'proxy_read_timeout' => 3600 }
      .merge(get('gitlab_rails', 'nginx', default: {}))
  end

  def redirects?
    tls? && nginx_options['redirect_http_to_https']
  end

  # Whether nginx itself speaks TLS: not so behind a proxy that does (`listen_https` false).
  def tls?
    https? && nginx_options['listen_https'] != false
  end

  # How a server of nginx (`gitlab_rails`, `registry`) speaks TLS: one directive a line.
  def tls_directives(service)
    options = TLS.merge(get(service, 'nginx', default: {}).slice(*TLS.keys))
    options.map { |name, value| name == 'ssl_ciphers' ? "#{name} '#{value}';" : "#{name} #{value};" }
  end

  # The header that keeps browsers on HTTPS; nil if it is turned off.
  def hsts(service)
    seconds = get(service, 'nginx', 'hsts_max_age', default: HSTS_SECONDS).to_i
    subdomains = get(service, 'nginx', 'hsts_include_subdomains') ? '; includeSubdomains' : ''
    seconds.positive? ? "max-age=#{seconds}#{subdomains}" : nil
  end

  # What nginx listens on, without IPv6 where the kernel has none.
  def listen_addresses
    addresses = nginx_options['listen_addresses'] || ['*', '[::]']
    File.exist?('/proc/net/if_inet6') ? addresses : addresses.reject { |address| address.start_with?('[') }
  end

  def listen_port
    nginx_options['listen_port'] || @external.port
  end

  def certificate
    [get('gitlab_rails', 'nginx', 'ssl_certificate', default: "#{SSL_DIR}/#{@external.host}.crt"),
     get('gitlab_rails', 'nginx', 'ssl_certificate_key', default: "#{SSL_DIR}/#{@external.host}.key")]
  end

  # With Let's Encrypt, a registry on another host shares the certificate of the external URL, unless its keys are set.
  def registry_certificate
    host = letsencrypt? ? @external.host : @registry.host
    [get('registry', 'nginx', 'ssl_certificate', default: "#{SSL_DIR}/#{host}.crt"),
     get('registry', 'nginx', 'ssl_certificate_key', default: "#{SSL_DIR}/#{host}.key")]
  end

  # Explicit setting first; else on when the URL is https and there are no certificate files, and from then on.
  def letsencrypt?
    explicit = get('letsencrypt', 'enable')
    return explicit && https? unless explicit.nil?
    return false unless https?

    @secrets.dig('letsencrypt', 'auto_enabled') || certificate.none? { |path| File.exist?(path) }
  end

  def letsencrypt_names
    names = [@external.host] + get('letsencrypt', 'alt_names', default: [])
    names << @registry.host if registry? && get('registry', 'nginx', 'ssl_certificate').nil?
    names.uniq
  end

  private

  def url(key)
    text = @values[key]
    return if text.nil? || text == ''

    uri = URI(text)
    return uri if %w[http https].include?(uri.scheme) && uri.host && ['', '/'].include?(uri.path)

    unless %w[http https].include?(uri.scheme) && uri.host
      raise ConfigError, "GitLab #{key} must include a schema and FQDN, e.g. http://gitlab.example.com/"
    end

    raise ConfigError, "Unsupported CONFIG PATH for #{key}: #{uri.path}. A path is not supported by this stand-in." if
      key == 'external_url'

    raise ConfigError, "Unsupported GitLab Registry external URL path: #{uri.path}"
  rescue URI::InvalidURIError
    raise ConfigError, "GitLab #{key} is not a URL: #{text}"
  end

  # On its own URL; else, with Let's Encrypt on, at port 5050 of the same host.
  def registry_url
    found = url('registry_external_url')
    return found if found
    return if get('registry', 'enable') == false
    return unless letsencrypt?

    URI("https://#{@external.host}:5050")
  end

  def check_registry
    return unless registry?

    # Without a port the real package takes that of the scheme, which is GitLab's own when the host is the same.
    if @registry.host == @external.host && @registry.port == @external.port
      raise ConfigError, "registry_external_url #{@registry} is the address of external_url: give it a port of its own"
    end

    storage = get('registry', 'storage', default: {})
    drivers = storage.keys - %w[maintenance cache delete redirect]
    return if drivers.size <= 1

    raise ConfigError, "registry['storage']: multiple storage drivers specified in configuration: #{drivers.join(', ')}"
  end

  def refuse_what_is_not_carried
    lacks = []
    roles = Array(@values['roles']) - %w[application_role]
    lacks << "roles #{roles.join(', ')}" unless roles.empty?
    lacks << 'pages_external_url' if url('pages_external_url')
    lacks << 'gitlab_kas_external_url' if url('gitlab_kas_external_url')
    %w[nginx puma].each { |name| lacks << "#{name}['enable'] = false" if get(name, 'enable') == false }
    %w[middleware redis reporting].each { |key| lacks << "registry['#{key}']" if get('registry', key) }
    lacks << "letsencrypt['authorization_method'] other than http" unless
      get('letsencrypt', 'authorization_method', default: 'http') == 'http'
    return if lacks.empty?

    raise ConfigError, "This gitlab-ce is a stand-in and does not support: #{lacks.join('; ')}."
  end
end
