# frozen_string_literal: true

require 'base64'
require 'digest'
require 'openssl'
require 'securerandom'
require_relative 'record'

# The rules for passwords, the same as those of the web application.
module Passwords
  ROUNDS = 20_000
  FORBIDDEN = %w[gitlab devops].freeze
  COMMON = File.expand_path('../service/gitlab-rails/gitlab_web/core/common_passwords.txt', __dir__)

  module_function

  def digest(password)
    salt = SecureRandom.random_bytes(16)
    "$pbkdf2-sha512$#{ROUNDS}$#{Base64.strict_encode64(salt)}$#{Base64.strict_encode64(derive(password, salt, ROUNDS))}"
  end

  def matches?(password, stored)
    _, _, rounds, salt, checksum = stored.split('$')
    found = derive(password, Base64.strict_decode64(salt), rounds.to_i)
    OpenSSL.secure_compare(found, Base64.strict_decode64(checksum))
  end

  def derive(password, salt, rounds)
    OpenSSL::KDF.pbkdf2_hmac(password, salt: salt, iterations: rounds, length: 64, hash: 'SHA512')
  end

  def weakness(password, *names)
    return 'Password is too short (minimum is 8 characters)' if password.length < 8
    return 'Password is too long (maximum is 128 characters)' if password.length > 128

    lower = password.downcase
    parts = names.compact.flat_map { |name| [name.downcase, *name.downcase.split(/[@.\s]+/)] }
    words = FORBIDDEN + parts.select { |part| part.length >= 4 }
    common = File.readlines(COMMON, chomp: true)
    return unless common.include?(lower) || lower.chars.uniq.one? || words.any? { |word| lower.include?(word) }

    'Password must not contain commonly used combinations of words and letters'
  end
end

class PersonalAccessToken < Record
  record 'personal_access_tokens',
         id: :number, user_id: :number, name: :text, description: :text, scopes: :list, token_digest: :text,
         expires_at: :date, revoked: :flag, created_at: :text, last_used_at: :text

  USER_SCOPES = %i[
    api read_api read_user create_runner manage_runner k8s_proxy self_rotate read_repository write_repository
    read_registry write_registry read_virtual_registry write_virtual_registry ai_features
  ].freeze
  ADMIN_SCOPES = %i[sudo admin_mode read_service_ping].freeze
  LONGEST = 365
  ALPHABET = [*'A'..'Z', *'a'..'z', *'0'..'9', '_', '-'].freeze

  # The value: known only in the process that made it.
  attr_reader :token

  class << self
    def digest(token)
      Base64.strict_encode64(Digest::SHA256.digest(token.to_s + Database.secrets['db_key_base']))
    end

    def find_by_token(token)
      find_by(token_digest: digest(token))
    end

    def active
      where.active
    end
  end

  def initialize(attributes = {})
    super({ revoked: false, scopes: [] }.merge(attributes))
  end

  def set_token(value)
    @token = value
    self.token_digest = self.class.digest(value)
  end
  alias token= set_token

  def user
    User.find(user_id)
  end

  def user=(owner)
    self.user_id = owner.id
  end

  def scopes=(values)
    @attributes[:scopes] = Array(values).map(&:to_s)
  end

  def expires_at=(value)
    @attributes[:expires_at] = value && self.class.as_date(value)
  end

  def expired?
    !expires_at.nil? && expires_at <= Date.current
  end
  alias expires? expires_at

  def active?
    !revoked && !expired?
  end

  def revoke!
    update!(revoked: true)
  end

  private

  def validate
    known = USER_SCOPES + (user_id && User.find(user_id).admin? ? ADMIN_SCOPES : [])
    @errors.add("Name can't be blank") if name.blank?
    @errors.add("User can't be blank") if user_id.nil?
    @errors.add("Scopes can't be blank") if scopes.empty?
    @errors.add('Scopes can only contain available scopes') unless (scopes.map(&:to_sym) - known).empty?
    return if persisted? && !expires_at

    @errors.add("Expiration date can't be blank") if expires_at.nil?
    last = Date.current + LONGEST
    @errors.add("Expiration date must be before #{last.iso8601}") if expires_at && !persisted? && expires_at > last
  end

  def add
    set_token("glpat-#{Array.new(20) { ALPHABET[SecureRandom.random_number(ALPHABET.size)] }.join}") unless token_digest
    super
  end
end

# A note of an administrator about a user.
class UserCustomAttribute < Record
  record 'user_custom_attributes', id: :number, user_id: :number, key: :text, value: :text, created_at: :text

  private

  def validate
    %i[key value].each { |name| @errors.add("#{name.to_s.capitalize} can't be blank") if public_send(name).blank? }
    same = self.class.find_by(user_id: user_id, key: key)
    @errors.add('Key has already been taken') if same && same.id != id
  end
end

class User < Record
  record 'users',
         id: :number, username: :text, name: :text, email: :text, password_digest: :text, admin: :flag, state: :text,
         otp_required_for_login: :flag, created_at: :text

  attr_accessor :password_confirmation

  def self.admins
    where(admin: true)
  end

  def personal_access_tokens
    Relation.new(PersonalAccessToken, { user_id: id })
  end

  def custom_attributes
    Relation.new(UserCustomAttribute, { user_id: id })
  end

  def password=(value)
    @password = value
  end

  def valid_password?(value)
    Passwords.matches?(value, password_digest)
  end

  alias two_factor_enabled? otp_required_for_login?

  def active?
    state == 'active'
  end

  def block
    update(state: 'blocked')
  end

  def activate
    update(state: 'active')
  end

  private

  def validate
    return if @password.nil?

    reason = Passwords.weakness(@password, username, name, email)
    @errors.add(reason) if reason
    differs = password_confirmation && password_confirmation != @password
    @errors.add("Password confirmation doesn't match Password") if differs
    self.password_digest = Passwords.digest(@password) if @errors.empty?
  end

  # Users are made through the API: there, they get a namespace too.
  def add
    raise NoMethodError, 'users can not be created by this stand-in of gitlab-rails: use the API'
  end
end

# Settings of the instance; their names and defaults are those that the web application knows.
class ApplicationSetting
  NAMES = File.expand_path('../service/gitlab-rails/gitlab_web/core/application_settings.json', __dir__)

  class << self
    def current
      new
    end
    alias last current
    alias first current
  end

  def update!(values)
    values.each do |name, value|
      unless defaults.key?(name.to_s)
        raise ActiveRecord::ActiveRecordError, "unknown attribute '#{name}' for ApplicationSetting."
      end

      Database.connection.execute('INSERT INTO application_settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE ' \
                                  'SET value = excluded.value', [name.to_s, JSON.generate(value)])
    end
    true
  end
  alias update update!

  def respond_to_missing?(name, include_private = false)
    defaults.key?(name.to_s.delete_suffix('?')) || super
  end

  def method_missing(name, *args)
    key = name.to_s.delete_suffix('?')
    return super unless defaults.key?(key) && args.empty?

    row = Database.connection.execute('SELECT value FROM application_settings WHERE name = ?', [key]).first
    row ? JSON.parse(row['value']) : defaults[key]
  end

  private

  def defaults
    @defaults ||= JSON.parse(File.read(NAMES))
  end
end

module Gitlab
  # The current settings, as a module.
  module CurrentSettings
    class << self
      def current_application_settings
        ApplicationSetting.current
      end

      def update!(...)
        ApplicationSetting.current.update!(...)
      end
      alias update update!

      def respond_to_missing?(name, include_private = false)
        ApplicationSetting.current.respond_to?(name) || super
      end

      def method_missing(name, ...)
        ApplicationSetting.current.respond_to?(name) ? ApplicationSetting.current.public_send(name, ...) : super
      end
    end
  end

  VERSION = File.read(File.expand_path('../version', __dir__)).strip
end
