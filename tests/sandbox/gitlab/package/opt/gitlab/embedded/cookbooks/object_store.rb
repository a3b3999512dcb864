# frozen_string_literal: true

require_relative 'configuration'

# Object storage for files of the application: gitlab_rails['object_store'], GitLab's consolidated form.
#
# Stricter than the real package in two points: unknown keys are refused, and so is a bucket that two types share, which
# GitLab's documentation forbids and nothing enforces.
class ObjectStore
  TYPES = %w[artifacts external_diffs lfs uploads packages dependency_proxy terraform_state ci_secure_files
             agent_plan_content pages].freeze
  # Types that the application does not start without a bucket for, unless gitlab_rails['TYPE_enabled'] is false
  # (config/object_store_settings.rb). External diffs are off unless they are turned on.
  REQUIRED = %w[artifacts lfs packages dependency_proxy terraform_state ci_secure_files agent_plan_content].freeze
  KEYS = %w[enabled proxy_download connection storage_options objects].freeze
  CONNECTION = %w[provider region endpoint host path_style aws_access_key_id aws_secret_access_key
                  aws_signature_version enable_signature_v4_streaming use_iam_profile].freeze
  OF_A_TYPE = %w[bucket enabled proxy_download].freeze

  def initialize(config)
    @config = config
    @given = config.get('gitlab_rails', 'object_store', default: {})
    refuse_other_form
    check if enabled?
  end

  # For the application, without the key; nil if it is off.
  def settings
    return unless enabled?

    { endpoint:, region: connection.fetch('region', 'us-east-1'), path_style: connection['path_style'] == true,
      buckets:, proxied: buckets.keys.select { |type| proxied?(type) } }
  end

  def secrets
    return {} unless enabled?

    { object_store_access_key: connection['aws_access_key_id'],
      object_store_secret_key: connection['aws_secret_access_key'] }
  end

  private

  # Without a connection the application ignores the section.
  def enabled?
    @given['enabled'] == true && !connection.empty?
  end

  def connection
    @given['connection'] || {}
  end

  def endpoint
    connection['endpoint'] || "https://#{connection.fetch('host', 's3.amazonaws.com')}"
  end

  def objects
    @given['objects'] || {}
  end

  def buckets
    TYPES.select { |type| used?(type) }.to_h { |type| [type, objects.dig(type, 'bucket')] }
         .reject { |_, name| name.to_s.empty? }
  end

  def used?(type)
    objects.fetch(type, {}).fetch('enabled', true)
  end

  def proxied?(type)
    objects.fetch(type, {}).fetch('proxy_download', @given['proxy_download']) == true
  end

  def check
    refuse_unknown
    REQUIRED.each do |type|
      next if buckets.key?(type) || !used?(type) || @config.get('gitlab_rails', "#{type}_enabled") == false

      raise ConfigError, "Object storage for #{type} must have a bucket specified"
    end
    shared = buckets.values.tally.select { |_, count| count > 1 }.keys
    raise ConfigError, "gitlab_rails['object_store']: a different bucket for each type must be used, and " \
                       "#{shared.join(', ')} is that of several" unless shared.empty?
    check_connection
  end

  def check_connection
    raise ConfigError, "#{connection['provider']} is not a recognized provider" unless connection['provider'] == 'AWS'
    raise ConfigError, 'This gitlab-ce is a stand-in and does not support: use_iam_profile' if
      connection['use_iam_profile']

    missing = %w[aws_access_key_id aws_secret_access_key].select { |key| connection[key].to_s.empty? }
    raise ConfigError, "Missing required arguments: #{missing.join(', ')}" unless missing.empty?
    raise ConfigError, 'This gitlab-ce is a stand-in and does not support: aws_signature_version other than 4' unless
      connection.fetch('aws_signature_version', 4).to_s == '4'
  end

  def refuse_unknown
    names = (@given.keys - KEYS).map { |key| "['#{key}']" }
    names += (connection.keys - CONNECTION).map { |key| "['connection']['#{key}']" }
    names += (objects.keys - TYPES).map { |type| "['objects']['#{type}']" }
    names += objects.flat_map { |type, one| (one.keys - OF_A_TYPE).map { |key| "['objects']['#{type}']['#{key}']" } }
    return if names.empty?

    raise ConfigError, 'Encountered unsupported config key ' \
                       "#{names.map { |name| "gitlab_rails['object_store']#{name}" }.join(', ')} in /etc/gitlab/gitlab.rb."
  end

  # With a connection of a type's own, the application ignores the consolidated form.
  def refuse_other_form
    others = TYPES.select { |type| @config.get('gitlab_rails', "#{type}_object_store_enabled") }
    return if others.empty?

    raise ConfigError, 'This gitlab-ce is a stand-in and does not support: ' \
                       "#{others.map { |type| "gitlab_rails['#{type}_object_store_enabled']" }.join(', ')}"
  end
end
