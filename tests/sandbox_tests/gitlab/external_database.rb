# frozen_string_literal: true

# Prints where the databases are that a gitlab.rb names, as JSON: external_database.rb <cookbooks> <file>

require File.join(ARGV[0], 'configuration')
require File.join(ARGV[0], 'external_database')
require File.join(ARGV[0], 'external_redis')
require File.join(ARGV[0], 'registry')

begin
  config = Configuration.read(ARGV[1])
  registry = config.registry? ? Registry.new(config, { 'registry' => {} }).send(:database) : nil
  puts JSON.generate(server: ExternalDatabase.new(config).server, registry: registry,
                     redis: ExternalRedis.new(config).server)
rescue ConfigError, Resources::Failure => e
  warn e.message
  exit 3
end
