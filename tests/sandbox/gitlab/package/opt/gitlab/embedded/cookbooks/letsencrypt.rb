# frozen_string_literal: true

require_relative 'resources'
require_relative 'secrets'

# Certificates by ACME, HTTP-01 over nginx on port 80: always the staging endpoint first, then production.
class LetsEncrypt
  STAGING = 'https://acme-staging-v02.api.letsencrypt.org/directory'
  PRODUCTION = 'https://acme-v02.api.letsencrypt.org/directory'
  RENEW_WITHIN = 30 * 86_400
  STATE = '/var/opt/gitlab/letsencrypt'
  BUNDLE = '/opt/gitlab/embedded/ssl/certs/cacert.pem'

  def initialize(config)
    @config = config
    @certificate, @key = config.certificate
    @names = config.letsencrypt_names
  end

  # nginx needs some certificate to start with; valid for 30 days, so it always counts as due. Also in the place of
  # halves that do not go together, which a run that was cut short can leave.
  def placeholder
    return if Certificates.pair?(@certificate, @key)

    key = OpenSSL::PKey::RSA.new(2048)
    Resources.file(@key, key.to_pem, mode: 0o600)
    Resources.file(@certificate, Certificates.self_signed(key, @names, RENEW_WITHIN).to_pem)
  end

  def due?
    !Certificates.good?(@certificate, @names, RENEW_WITHIN)
  end

  # Gets a certificate when one is due; true when it did.
  def ensure_certificate
    return Resources.did("letsencrypt_certificate[#{@names.first}]", 'create', false) unless due?

    obtain('staging', @config.get('letsencrypt', 'acme_staging_endpoint', default: STAGING))
    live = obtain('production', @config.get('letsencrypt', 'acme_production_endpoint', default: PRODUCTION))
    Resources.file(@key, File.read("#{live}/privkey.pem"), mode: 0o600)
    Resources.file(@certificate, File.read("#{live}/fullchain.pem"))
    Resources.did("letsencrypt_certificate[#{@names.first}]", 'create', true)
  end

  private

  def obtain(stage, endpoint)
    work = "#{STATE}/#{stage}"
    FileUtils.mkdir_p(work, mode: 0o700)
    command = ['certbot', 'certonly', '--non-interactive', '--agree-tos', '--force-renewal', '--no-directory-hooks',
               '--server', endpoint, '--webroot', '--webroot-path', wwwroot, '--cert-name', @names.first,
               '--config-dir', "#{work}/config", '--work-dir', "#{work}/work", '--logs-dir', "#{work}/logs"]
    command += contact + key_type + @names.flat_map { |name| ['--domain', name] }
    Resources.run(*command, env: { 'REQUESTS_CA_BUNDLE' => BUNDLE }, name: 'certificate request')
    Resources.did("acme_certificate[#{stage}]", 'create', true)
    "#{work}/config/live/#{@names.first}"
  rescue Resources::Failure => e
    raise Resources::Failure, "letsencrypt_certificate[#{@names.first}] had an error: acme_certificate[#{stage}] " \
                              "had an error: [#{@names.join(', ')}] Validation failed, unable to request certificate " \
                              "from #{endpoint}\n#{e.message}"
  end

  def wwwroot
    @config.get('letsencrypt', 'wwwroot', default: Configuration::WWWROOT)
  end

  def contact
    emails = @config.get('letsencrypt', 'contact_emails', default: [])
    emails.empty? ? ['--register-unsafely-without-email'] : ['--email', emails.join(',')]
  end

  def key_type
    if @config.get('letsencrypt', 'key_type', default: 'rsa') == 'ecdsa'
      ['--key-type', 'ecdsa', '--elliptic-curve', @config.get('letsencrypt', 'ec_curve', default: 'secp256r1')]
    else
      ['--key-type', 'rsa', '--rsa-key-size', @config.get('letsencrypt', 'key_size', default: 2048).to_s]
    end
  end
end
