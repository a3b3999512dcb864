# frozen_string_literal: true

require_relative 'services'

# Prometheus and the exporters of GitLab's own parts. Other than in the real package they are off unless gitlab.rb turns
# them on. The application's own pages of metrics are no targets here.
class Monitoring
  EXPORTERS = { 'node_exporter' => 9100, 'redis_exporter' => 9121, 'gitlab_exporter' => 9168,
                'postgres_exporter' => 9187 }.freeze
  JOBS = { 'node_exporter' => 'node', 'redis_exporter' => 'redis', 'gitlab_exporter' => 'gitlab_exporter_ruby',
           'postgres_exporter' => 'postgres' }.freeze

  def initialize(config)
    @config = config
  end

  def prepare
    (EXPORTERS.keys + ['prometheus']).each { |name| Services.disable(name) unless on?(name) }
    running.each { |name| define(name, "exporter #{name} #{address(name)}") }
    define('prometheus', "prometheus #{address('prometheus')} #{targets.join(' ')}") if on?('prometheus')
  end

  def start
    [*running, *('prometheus' if on?('prometheus'))].each { |name| Services.enable(name) }
  end

  private

  # All together, with exceptions, or one by one.
  def on?(name)
    @config.get(name, 'enable', default: @config.get('prometheus_monitoring', 'enable', default: false))
  end

  def running
    EXPORTERS.keys.select { |name| on?(name) }
  end

  def address(name)
    given = @config.get(name, 'listen_address', default: "localhost:#{EXPORTERS.fetch(name, 9090)}")
    given.sub('localhost', '127.0.0.1')
  end

  def targets
    ["prometheus=http://#{address('prometheus')}/metrics",
     *running.map { |name| "#{JOBS[name]}=http://#{address(name)}/metrics" }]
  end

  def define(name, arguments)
    Services.define(name, 'metrics_run.erb', { arguments:, user: 'gitlab-www' })
  end
end
