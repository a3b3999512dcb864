# frozen_string_literal: true

require_relative 'configuration'

# Sign-in by other parties: the keys gitlab_rails['omniauth_…'], as the package hands them on.
class Omniauth
  DEFAULTS = { 'enabled' => true, 'allow_single_sign_on' => ['saml'], 'auto_link_user' => [],
               'block_auto_created_users' => true, 'providers' => [] }.freeze
  STRATEGY = 'OmniAuth::Strategies::OpenIDConnect'

  def initialize(config)
    @config = config
    settings['providers'].each { |provider| check(provider) }
  end

  def settings
    DEFAULTS.to_h do |key, default|
      value = @config.get('gitlab_rails', "omniauth_#{key}", default:)
      # The package writes YAML, in which an absent list is null.
      [key, value.nil? ? default : value]
    end
  end

  private

  # Any other name would be that of a class, which Rails does not find at its start.
  def check(provider)
    name = provider['name']
    raise ConfigError, "gitlab_rails['omniauth_providers']: a provider has no name" if name.to_s.empty?

    args = provider['args']
    return unless args.is_a?(Hash) && args.key?('issuer')
    return if name == 'openid_connect' || args['strategy_class'] == STRATEGY

    raise ConfigError, "NameError: uninitialized constant OmniAuth::Strategies::#{name.split('_').map(&:capitalize).join}"
  end
end
