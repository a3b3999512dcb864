# frozen_string_literal: true

require 'pg'

# A database in a PostgreSQL server, with the methods of SQLite's that records use.
class PostgresqlDatabase
  # As in the application: writers wait for each other.
  WRITERS = 7_406_202

  def initialize(server, password)
    options = server.slice('host', 'port', 'user', 'dbname', 'sslmode', 'sslrootcert').compact
    @raw = PG.connect(**options.transform_keys(&:to_sym), password:, application_name: 'gitlab')
    types = PG::BasicTypeMapForResults.new(@raw)
    types.default_type_map = PG::TypeMapAllStrings.new
    @raw.type_map_for_results = types
  end

  def execute(query, values = [])
    write = query.match?(/\A\s*(INSERT|UPDATE|DELETE)\b/i)
    return run(query, values) unless write && @raw.transaction_status == PG::PQTRANS_IDLE

    transaction { run(query, values) }
  end

  def transaction(&block)
    @raw.transaction do
      @raw.exec("SELECT pg_advisory_xact_lock(#{WRITERS})")
      block.call
    end
  end

  def last_insert_row_id
    @raw.exec('SELECT lastval() AS id').first['id']
  end

  private

  def run(query, values)
    number = 0
    @raw.exec_params(query.gsub('?') { "$#{number += 1}" }, values).to_a
  end
end
