# frozen_string_literal: true

# Prints where the databases are that a gitlab.rb names, as JSON: external_database.rb <cookbooks> <file>

require File.join(ARGV[0], 'configuration')
require File.join(ARGV[0], 'external_database')
require File.join(ARGV[0], 'external_redis')
require File.join(ARGV[0], 'registry')

begin
  config = Configuration.read(ARGV[1])
  database = config.registry? && Registry.new(config, { 'registry' => {} })
  database&.send(:refuse_a_server_that_does_not_run) if config.get('registry', 'database', 'enabled') == true
  registry = config.registry? ? Registry.new(config, { 'registry' => {} }).send(:database) : nil
  puts JSON.generate(server: ExternalDatabase.new(config).server, registry: registry,
                     redis: ExternalRedis.new(config).server)
rescue ConfigError, Resources::Failure => e
  warn e.message
  exit 3
end
