# frozen_string_literal: true

require 'base64'
require 'digest'
require 'openssl'
require 'securerandom'
require_relative 'record'

# The encryption of values that can be read again, the same as that of the web application: Fernet.
module Sealing
  VERSION = "\x80".b

  module_function

  def seal(text)
    signing, key = keys
    cipher = OpenSSL::Cipher.new('aes-128-cbc').encrypt
    cipher.key = key
    iv = cipher.random_iv
    body = VERSION + [Time.now.to_i].pack('Q>') + iv + cipher.update(text) + cipher.final
    Base64.urlsafe_encode64(body + OpenSSL::HMAC.digest('SHA256', signing, body))
  end

  def unseal(sealed)
    signing, key = keys
    raw = Base64.urlsafe_decode64(sealed)
    body = raw[0...-32]
    genuine = OpenSSL.secure_compare(OpenSSL::HMAC.digest('SHA256', signing, body), raw[-32..])
    raise OpenSSL::Cipher::CipherError unless genuine

    cipher = OpenSSL::Cipher.new('aes-128-cbc').decrypt
    cipher.key = key
    cipher.iv = body[9...25]
    (cipher.update(body[25..]) + cipher.final).force_encoding('UTF-8')
  end

  def keys
    whole = Digest::SHA256.digest("column:#{Database.secrets['db_key_base']}")
    [whole[0...16], whole[16..]]
  end
end

# GitLab keeps its value encrypted, so that it can be read here, and in a unique index.
class DeployToken < Record
  record 'deploy_tokens',
         id: :number, project_id: :number, namespace_id: :number, creator_id: :number, name: :text, username: :text,
         scopes: :list, token_digest: :text, encrypted_token: :text, expires_at: :text, revoked: :flag, created_at: :text

  class << self
    def find_by_token(token)
      find_by(token_digest: PersonalAccessToken.digest(token))
    end

    def active
      where.active
    end
  end

  def token
    encrypted_token && Sealing.unseal(encrypted_token)
  end

  def set_token(value)
    raise ArgumentError if value.blank?

    self.token_digest = PersonalAccessToken.digest(value)
    self.encrypted_token = Sealing.seal(value)
    value
  end

  def expired?
    !expires_at.nil? && Time.iso8601(expires_at) <= Time.now
  end

  def active?
    !revoked && !expired?
  end

  def revoke!
    update!(revoked: true)
  end
end

# Made through the API, and found here.
class Project < Record
  record 'projects', id: :number, path: :text, full_path: :text, name: :text, created_at: :text

  def deploy_tokens
    Relation.new(DeployToken, { project_id: id })
  end

  private

  def add
    raise NoMethodError, 'projects can not be created by this stand-in of gitlab-rails: use the API'
  end
end
