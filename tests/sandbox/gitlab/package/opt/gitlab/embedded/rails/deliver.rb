# frozen_string_literal: true

# Sends one mail of the application, which comes as JSON on standard input.

require 'json'
require_relative 'mailer'

given = JSON.parse($stdin.read)
message = Notify.email(given.fetch('to'), given.fetch('subject'), 'text/plain; charset=UTF-8', given.fetch('body'))
message.headers(given.fetch('headers'))
message.deliver_now
