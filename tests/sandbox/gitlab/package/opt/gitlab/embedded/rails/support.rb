# frozen_string_literal: true

require_relative 'durations'

# The few of ActiveSupport's conveniences that scripts use.
class Object
  def blank?
    respond_to?(:empty?) ? !!empty? : !self
  end

  def present?
    !blank?
  end

  def presence
    self if present?
  end

  def try(name, ...)
    public_send(name, ...) if respond_to?(name)
  end
end

class Time
  # The zone of the application is UTC.
  module Zone
    def self.now
      Time.now.utc
    end

    def self.today
      Time.now.utc.to_date
    end
  end

  def self.current
    now.utc
  end

  def self.zone
    Zone
  end
end

class Date
  def self.current
    Time.now.utc.to_date
  end

  def self.tomorrow
    current + 1
  end
end
