# frozen_string_literal: true

require 'json'
require 'openssl'
require 'securerandom'
require_relative 'resources'

# /etc/gitlab/gitlab-secrets.json: made once, kept for ever. Losing it makes tokens and registry keys invalid.
class Secrets
  FILE = '/etc/gitlab/gitlab-secrets.json'

  attr_reader :values

  def initialize(path = FILE)
    @path = path
    @values = File.exist?(path) ? JSON.parse(File.read(path)) : {}
  rescue JSON::ParserError
    raise ConfigError, "#{path} is not JSON: restore it from a backup, or remove it to lose every token"
  end

  def complete
    rails = (@values['gitlab_rails'] ||= {})
    %w[secret_key_base db_key_base otp_key_base].each { |key| rails[key] ||= SecureRandom.hex(64) }
    (@values['gitlab_workhorse'] ||= {})['secret_token'] ||= SecureRandom.base64(32)
    registry = (@values['registry'] ||= {})
    registry['http_secret'] ||= SecureRandom.hex(64)
    make_registry_key(registry) unless registry['internal_key']
    self
  end

  def write
    Resources.file(@path, "#{JSON.pretty_generate(@values)}\n", mode: 0o600)
  end

  private

  # The pair that signs registry tokens: private half for GitLab, certificate for the registry.
  def make_registry_key(registry)
    key = OpenSSL::PKey::RSA.new(2048)
    registry['internal_key'] = key.to_pem
    registry['internal_certificate'] = Certificates.self_signed(key, ['gitlab-issuer'], 3650 * 86_400).to_pem
  end
end

# Certificates that are made here and not by an authority.
module Certificates
  module_function

  def self_signed(key, names, seconds)
    certificate = OpenSSL::X509::Certificate.new
    certificate.version = 2
    certificate.serial = SecureRandom.random_number(1 << 64)
    certificate.subject = certificate.issuer = OpenSSL::X509::Name.new([['CN', names.first[0, 64]]])
    certificate.public_key = key.public_key
    certificate.not_before = Time.now - 60
    certificate.not_after = Time.now + seconds
    factory = OpenSSL::X509::ExtensionFactory.new(certificate, certificate)
    text = names.map { |name| "DNS:#{name}" }.join(',')
    certificate.add_extension(factory.create_extension('subjectAltName', text))
    certificate.sign(key, OpenSSL::Digest.new('SHA256'))
  end

  # True when there are both, and they belong together.
  def pair?(certificate, key)
    OpenSSL::X509::Certificate.new(File.read(certificate)).check_private_key(OpenSSL::PKey.read(File.read(key)))
  rescue Errno::ENOENT, OpenSSL::OpenSSLError
    false
  end

  # True when the file holds a certificate for all of the names, with at least `seconds` left.
  def good?(path, names, seconds)
    certificate = OpenSSL::X509::Certificate.new(File.read(path))
    alt = certificate.extensions.find { |extension| extension.oid == 'subjectAltName' }
    covered = alt.to_s.scan(/DNS:([^,\s]+)/).flatten
    (names - covered).empty? && certificate.not_after - Time.now > seconds
  rescue Errno::ENOENT, OpenSSL::X509::CertificateError
    false
  end
end
