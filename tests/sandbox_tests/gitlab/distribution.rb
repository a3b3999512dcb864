# frozen_string_literal: true

# Translates a registry configuration as the package does, and prints it: distribution.rb <cookbooks> <file>

require File.join(ARGV[0], 'distribution')

begin
  puts JSON.generate(Distribution.translate(Distribution.read(ARGV[1])))
rescue Distribution::Refused => e
  warn e.message
  exit 3
end
