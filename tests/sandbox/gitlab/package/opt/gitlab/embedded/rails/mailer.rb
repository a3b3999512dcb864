# frozen_string_literal: true

require 'mail'
require_relative 'record'

module ActionMailer
  # Where the initializer smtp_settings.rb says how mail is sent; without it by the machine's sendmail.
  class Base
    class << self
      attr_accessor :smtp_settings
      attr_writer :delivery_method

      def delivery_method
        @delivery_method || :sendmail
      end
    end
  end

  # A mail that is made and not sent yet.
  class MessageDelivery
    def initialize(message)
      @message = message
    end

    def headers(more)
      @message.headers(more)
    end

    def deliver_now
      return @message unless Database.settings.fetch('email').fetch('enabled')

      options = ActionMailer::Base.delivery_method == :smtp ? ActionMailer::Base.smtp_settings : {}
      @message.delivery_method(ActionMailer::Base.delivery_method, options)
      @message.deliver!
    end
  end
end

# GitLab's own mailer, as far as administrators use it in the console.
module Notify
  INITIALIZER = File.join(ENV.fetch('GITLAB_RAILS_CONFIG', Database::DIRECTORY), 'smtp_settings.rb')

  def self.test_email(recipient_email, subject, body)
    email(recipient_email, subject, 'text/html; charset=UTF-8', body)
  end

  def self.email(recipient, subject, content_type, body)
    load INITIALIZER if File.exist?(INITIALIZER)
    settings = Database.settings.fetch('email')
    sender = Mail::Address.new(settings.fetch('from'))
    sender.display_name = settings.fetch('display_name')
    message = Mail.new(from: sender.format, to: recipient, reply_to: settings.fetch('reply_to'), subject:)
    message.content_type = content_type
    message.body = body
    ActionMailer::MessageDelivery.new(message)
  end
end
