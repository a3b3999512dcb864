# frozen_string_literal: true

# Prints what the package would hand on for sign-in, as JSON: omniauth_settings.rb <cookbooks> <file>

require 'json'
require File.join(ARGV[0], 'omniauth')

begin
  puts JSON.generate(Omniauth.new(Configuration.read(ARGV[1])).settings)
rescue ConfigError => e
  warn e.message
  exit 3
end
