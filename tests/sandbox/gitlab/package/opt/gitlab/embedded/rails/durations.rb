# frozen_string_literal: true

require 'date'
require 'time'

# A length of time, as ActiveSupport counts it. Months and years are steps of the calendar, taken from the moment that
# they are added to: a month after 31 January is the last day of February. Days and less are so many seconds, since the
# zone of the application is UTC.
class Duration
  SECONDS = { second: 1, minute: 60, hour: 3600, day: 86_400, week: 604_800 }.freeze
  # What a month and a year are where only a number can be given: the mean of the calendar.
  MEAN = { month: 2_629_746, year: 31_556_952 }.freeze
  MONTHS = { month: 1, year: 12 }.freeze

  # Units and how many of each, in the order in which they are added.
  attr_reader :parts

  def initialize(parts)
    @parts = parts
  end

  def since(moment = Time.now.utc)
    add(moment, 1)
  end
  alias from_now since
  alias after since

  def until(moment = Time.now.utc)
    add(moment, -1)
  end
  alias ago until
  alias before until

  def +(other)
    more = other.is_a?(Duration) ? other.parts : { second: other }
    Duration.new(parts.merge(more) { |_, mine, theirs| mine + theirs })
  end

  def -(other)
    self + -other
  end

  def -@
    Duration.new(parts.transform_values(&:-@))
  end

  def to_i
    parts.sum { |unit, count| (SECONDS[unit] || MEAN[unit]) * count }
  end

  private

  def add(moment, sign)
    parts.inject(moment.is_a?(DateTime) ? moment.to_time : moment) do |at, (unit, count)|
      MONTHS.key?(unit) ? step(at, sign * count * MONTHS[unit]) : shift(at, unit, sign * count)
    end
  end

  # Date#>> clamps to the end of the month; the time of day stays.
  def step(moment, months)
    return moment >> months if moment.is_a?(Date)

    day = moment.to_date >> months
    Time.new(day.year, day.month, day.day, moment.hour, moment.min, moment.sec + moment.subsec, moment.utc_offset)
        .then { |time| moment.utc? ? time.utc : time }
  end

  # A date stays one as long as whole days are added to it; hours make it a moment.
  def shift(moment, unit, count)
    return moment + (count * SECONDS[unit]) unless moment.is_a?(Date)
    return moment + (count * SECONDS[unit] / SECONDS[:day]) if SECONDS[unit] >= SECONDS[:day]

    Time.utc(moment.year, moment.month, moment.day) + (count * SECONDS[unit])
  end
end

# 90.days, 1.year and so on.
module Durations
  [*Duration::SECONDS.keys, *Duration::MONTHS.keys].each do |unit|
    define_method(unit) { Duration.new({ unit => self }) }
    define_method(:"#{unit}s") { Duration.new({ unit => self }) }
  end
end

class Integer
  include Durations
end

# A moment or a day, plus or minus a duration.
module DurationArithmetic
  def +(other)
    other.is_a?(Duration) ? other.since(self) : super
  end

  def -(other)
    other.is_a?(Duration) ? other.until(self) : super
  end
end

[Time, Date].each { |kind| kind.prepend(DurationArithmetic) }
