# frozen_string_literal: true

require_relative 'configuration'
require_relative 'resources'

# How the application sends mail: the keys gitlab_rails['smtp_…'], as the package checks and hands them on.
class Smtp
  FILE = '/var/opt/gitlab/gitlab-rails/etc/smtp_settings.rb'
  KEYS = %w[address port domain enable_starttls_auto tls ssl openssl_verify_mode ca_path ca_file open_timeout
            read_timeout].freeze
  DEFAULTS = { 'ca_file' => '/opt/gitlab/embedded/ssl/certs/cacert.pem', 'open_timeout' => 30,
               'read_timeout' => 60 }.freeze
  MECHANISMS = %w[login plain cram_md5].freeze

  def initialize(config)
    @config = config
    check if enabled?
  end

  # Readable for all, in a folder that only the application may enter.
  def write
    return Resources.delete(FILE) unless enabled?

    Resources.file(FILE, <<~RUBY, mode: 0o644)
      ActionMailer::Base.delivery_method = :smtp
      ActionMailer::Base.smtp_settings = #{settings.inspect}
    RUBY
  end

  # What Action Mailer gets.
  def settings
    given = KEYS.to_h { |key| [key.to_sym, get(key, DEFAULTS[key])] }.compact
    { authentication: authentication&.to_sym, user_name: get('user_name'), password: get('password') }
      .compact.merge(given)
  end

  private

  def enabled?
    get('enable', false)
  end

  def get(key, default = nil)
    @config.get('gitlab_rails', "smtp_#{key}", default:)
  end

  def authentication
    value = get('authentication').to_s.downcase
    value if MECHANISMS.include?(value)
  end

  def check
    given = get('authentication')
    unless ['', 'false', 'none', *MECHANISMS].include?(given.to_s.downcase)
      raise ConfigError, "gitlab_rails['smtp_authentication'] is set to an unrecognized value: #{given.inspect}. " \
                         "Valid mechanisms are: #{MECHANISMS.join(', ')}. " \
                         "Set it to false or 'none' to disable SMTP authentication."
    end
    return unless get('tls') && get('enable_starttls_auto')

    raise ConfigError, "gitlab_rails['smtp_tls'] and gitlab_rails['smtp_enable_starttls_auto'] are mutually " \
                       'exclusive. Set one of them to false. SMTP providers usually use port 465 for TLS and port ' \
                       '587 for STARTTLS.'
  end
end
