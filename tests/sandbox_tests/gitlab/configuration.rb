# frozen_string_literal: true

# Reads a gitlab.rb as the package does, and prints what it comes to as JSON: configuration.rb <cookbooks> <file>

require File.join(ARGV[0], 'configuration')

begin
  config = Configuration.read(ARGV[1])
  registry = config.registry? ? config.registry.to_s : nil
  puts JSON.generate(
    values: config.values, deprecations: config.deprecations, external: config.external.to_s, registry: registry,
    letsencrypt: config.letsencrypt? || false, names: config.letsencrypt_names, certificate: config.certificate,
    redirects: config.redirects?,
    tls: config.tls_directives('gitlab_rails'), hsts: config.hsts('gitlab_rails'),
    registry_tls: config.tls_directives('registry'), registry_hsts: config.hsts('registry'),
    registry_certificate: registry && config.registry_certificate
  )
rescue ConfigError => e
  warn e.message
  exit 3
end
