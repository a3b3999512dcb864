# frozen_string_literal: true

# Prints the initializer that the package would write for a gitlab.rb: smtp_settings.rb <cookbooks> <file>

require File.join(ARGV[0], 'smtp')

begin
  settings = Smtp.new(Configuration.read(ARGV[1])).settings
  puts "ActionMailer::Base.delivery_method = :smtp\nActionMailer::Base.smtp_settings = #{settings.inspect}"
rescue ConfigError => e
  warn e.message
  exit 3
end
