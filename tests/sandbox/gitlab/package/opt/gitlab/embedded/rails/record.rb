# frozen_string_literal: true

require 'json'
require_relative 'support'

module ActiveRecord
  class ActiveRecordError < StandardError; end
  class RecordNotFound < ActiveRecordError; end
  class RecordInvalid < ActiveRecordError; end

  # All or nothing.
  class Base
    def self.transaction(&block)
      Database.connection.transaction { block.call }
    end
  end
end

# Settings, secrets and the connection.
module Database
  DIRECTORY = '/var/opt/gitlab/gitlab-rails/etc'

  module_function

  def settings
    @settings ||= read('gitlab.json')
  end

  def secrets
    @secrets ||= read('secrets.json')
  end

  def connection
    @connection ||= settings['database_server'] ? server : file
  end

  # Only where the application runs without a machine, in tests.
  def file
    require 'sqlite3'
    SQLite3::Database.new(File.join(settings['data'], 'gitlab.sqlite3')).tap do |database|
      database.results_as_hash = true
      database.busy_timeout = 20_000
      database.execute('PRAGMA foreign_keys = ON')
    end
  end

  def server
    require_relative 'postgresql'
    PostgresqlDatabase.new(settings['database_server'], secrets['database_password'])
  end

  def now
    Time.now.utc.strftime('%Y-%m-%dT%H:%M:%S.%LZ')
  end

  def read(name)
    JSON.parse(File.read(File.join(ENV.fetch('GITLAB_RAILS_CONFIG', DIRECTORY), name)))
  rescue Errno::ENOENT
    abort 'gitlab-rails: GitLab is not set up yet: run gitlab-ctl reconfigure'
  end
end

# Messages of what is wrong with a record.
class Errors
  def initialize
    @messages = []
  end

  def add(message)
    @messages << message
  end

  def full_messages
    @messages.dup
  end

  def empty?
    @messages.empty?
  end
  alias none? empty?

  def any?
    !empty?
  end

  def clear
    @messages.clear
  end
end

# Some rows of a table: narrowed by `where`, read when looked at.
class Relation
  include Enumerable

  def initialize(model, conditions = {}, filter: nil)
    @model = model
    @conditions = conditions
    @filter = filter
  end

  def where(conditions)
    Relation.new(@model, @conditions.merge(@model.columns_of(conditions)), filter: @filter)
  end

  def not_revoked
    where(revoked: false)
  end

  def not_expired
    narrowed { |record| !record.expired? }
  end

  def active
    narrowed(&:active?)
  end

  def inactive
    narrowed { |record| !record.active? }
  end

  def each(&)
    rows = @model.select(@conditions)
    (@filter ? rows.select(&@filter) : rows).each(&)
  end

  alias find_each each

  def find_by(conditions)
    where(conditions).first
  end

  def all
    self
  end

  def update_all(attributes)
    to_a.each { |record| record.assign_attributes(attributes) }.each { |record| record.save!(validate: false) }.size
  end

  def last
    to_a.last
  end

  def empty?
    none?
  end

  def exists?(conditions = {})
    where(conditions).any?
  end

  def size
    count
  end

  def pluck(name)
    map { |record| record.public_send(name) }
  end

  def build(attributes = {})
    @model.new(@conditions.merge(attributes))
  end
  alias new build

  def create(attributes = {})
    build(attributes).tap(&:save)
  end

  def create!(attributes = {})
    build(attributes).tap(&:save!)
  end

  private

  def narrowed(&block)
    before = @filter
    Relation.new(@model, @conditions, filter: ->(record) { (before.nil? || before.call(record)) && block.call(record) })
  end
end

# A row of a table. A model says its table, its columns, and which are lists or flags.
class Record
  class << self
    attr_reader :table, :columns

    def record(table, columns)
      @table = table
      @columns = columns
      columns.each do |name, kind|
        define_method(name) { @attributes[name] }
        define_method(:"#{name}=") { |value| @attributes[name] = value }
        define_method(:"#{name}?") { !!@attributes[name] } if kind == :flag
        define_singleton_method(:"find_by_#{name}") { |value| find_by(name => value) }
        define_singleton_method(:"find_by_#{name}!") { |value| find_by!(name => value) }
      end
    end

    # Conditions on columns: another record stands for its id.
    def columns_of(conditions)
      raise ActiveRecord::ActiveRecordError, 'only a hash of conditions is carried' unless conditions.is_a?(Hash)

      conditions.to_h { |name, value| value.is_a?(Record) ? [:"#{name}_id", value.id] : [name.to_sym, value] }
    end

    def select(conditions)
      unknown = conditions.keys.map(&:to_sym) - columns.keys
      raise ActiveRecord::ActiveRecordError, "unknown attribute #{unknown.join(', ')} for #{name}" unless unknown.empty?

      tests = conditions.map { |column, value| test_of(column, value) }
      text = tests.empty? ? '' : " WHERE #{tests.join(' AND ')}"
      values = conditions.flat_map do |column, value|
        (value.is_a?(Array) ? value.compact : [value]).map { |one| store(columns[column.to_sym], one) }
      end
      Database.connection.execute("SELECT * FROM #{table}#{text} ORDER BY id", values).map { |row| load(row) }
    end

    # Several values are alternatives, and nil among them stands for none.
    def test_of(column, value)
      return "#{column} = ?" unless value.is_a?(Array)

      alternatives = value.compact.map { "#{column} = ?" }
      alternatives << "#{column} IS NULL" if value.include?(nil)
      "(#{alternatives.join(' OR ')})"
    end

    def where(conditions = {})
      Relation.new(self, columns_of(conditions))
    end
    alias all where

    def find_by(conditions)
      where(conditions).first
    end

    def find_by!(conditions)
      find_by(conditions) || raise(ActiveRecord::RecordNotFound, "Couldn't find #{name}")
    end

    def find(id)
      find_by!(id: id)
    end

    def first
      where.first
    end

    def last
      where.last
    end

    def count
      where.count
    end

    def exists?(conditions = {})
      where(conditions).any?
    end

    def create(attributes = {})
      new(attributes).tap(&:save)
    end

    def create!(attributes = {})
      new(attributes).tap(&:save!)
    end

    def load(row)
      record = allocate
      record.restore(columns.to_h { |column, kind| [column, restore_value(kind, row[column.to_s])] })
      record
    end

    def store(kind, value)
      case kind
      when :list then JSON.generate(value.map(&:to_s))
      when :flag then value ? 1 : 0
      when :date then value.nil? ? nil : as_date(value).iso8601
      else value.is_a?(Symbol) ? value.to_s : value
      end
    end

    def restore_value(kind, value)
      case kind
      when :list then JSON.parse(value)
      when :flag then value == 1
      when :date then value && Date.iso8601(value)
      else value
      end
    end

    def as_date(value)
      case value
      when DateTime, Time then value.to_time.utc.to_date
      when Date then value
      else Date.parse(value.to_s)
      end
    end
  end

  attr_reader :errors

  def initialize(attributes = {})
    restore({})
    assign_attributes(attributes)
  end

  def restore(attributes)
    @errors = Errors.new
    @attributes = attributes
  end

  def assign_attributes(attributes)
    attributes.each do |name, value|
      setter = :"#{name}="
      unknown = "unknown attribute '#{name}' for #{self.class.name}."
      raise ActiveRecord::ActiveRecordError, unknown unless respond_to?(setter)

      public_send(setter, value)
    end
  end

  def persisted?
    !@attributes[:id].nil?
  end

  def new_record?
    !persisted?
  end

  def valid?
    @errors.clear
    validate
    @errors.empty?
  end

  def save(validate: true)
    return false if validate && !valid?

    persisted? ? change : add
    true
  end

  def save!(validate: true)
    return true if save(validate: validate)

    raise ActiveRecord::RecordInvalid, "Validation failed: #{@errors.full_messages.join(', ')}"
  end

  def update(attributes)
    assign_attributes(attributes)
    save
  end

  def update!(attributes)
    assign_attributes(attributes)
    save!
  end

  def destroy!
    Database.connection.execute("DELETE FROM #{self.class.table} WHERE id = ?", [id])
    self
  end
  alias destroy destroy!

  def reload
    restore(self.class.find(id).attributes)
    self
  end

  def attributes
    @attributes.dup
  end

  def ==(other)
    other.is_a?(self.class) && other.id == id
  end

  # Never the values: some of them are secret.
  def inspect
    "#<#{self.class.name} id: #{id.inspect}>"
  end

  private

  def validate; end

  def stored
    kinds = self.class.columns
    @attributes.reject { |name, _| name == :id }.to_h { |name, value| [name, self.class.store(kinds[name], value)] }
  end

  def add
    @attributes[:created_at] ||= Database.now
    values = stored
    names = values.keys.join(', ')
    marks = (['?'] * values.size).join(', ')
    Database.connection.execute("INSERT INTO #{self.class.table} (#{names}) VALUES (#{marks})", values.values)
    @attributes = self.class.find(Database.connection.last_insert_row_id).attributes
  end

  def change
    values = stored
    tests = values.keys.map { |name| "#{name} = ?" }.join(', ')
    Database.connection.execute("UPDATE #{self.class.table} SET #{tests} WHERE id = ?", values.values + [id])
  end
end
