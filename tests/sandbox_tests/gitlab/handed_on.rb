# frozen_string_literal: true

# Prints what the package would hand on of a part of gitlab.rb, as JSON: handed_on.rb <cookbooks> <file> omniauth|ldap|object_store

require 'json'
require File.join(ARGV[0], ARGV[2])

begin
  puts JSON.generate(Object.const_get(ARGV[2].split('_').map(&:capitalize).join).new(Configuration.read(ARGV[1])).settings)
rescue ConfigError => e
  warn e.message
  exit 3
end
