# frozen_string_literal: true

require 'date'
require 'time'

# The few of ActiveSupport's conveniences that scripts use.
module Durations
  # Days and the like, relative to now.
  class Span
    attr_reader :seconds

    def initialize(seconds)
      @seconds = seconds
    end

    def from_now
      Time.now.utc + @seconds
    end

    def ago
      Time.now.utc - @seconds
    end

    def to_i
      @seconds
    end

    def +(other)
      Span.new(@seconds + other.to_i)
    end
  end

  SIZES = { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800, month: 2_629_746, year: 31_556_952 }.freeze
  SIZES.each do |name, size|
    define_method(name) { Span.new(self * size) }
    define_method(:"#{name}s") { Span.new(self * size) }
  end
end

class Integer
  include Durations
end

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
