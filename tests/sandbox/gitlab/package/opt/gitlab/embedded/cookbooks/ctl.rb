# frozen_string_literal: true

require 'fileutils'
require 'open3'
require_relative 'backup_etc'
require_relative 'reconfigure'
require_relative 'registry_database'

# The commands of gitlab-ctl. What the real one has and this one lacks is refused by name.
class Ctl
  SERVICE_COMMANDS = %w[status start stop restart hup term int kill once force-stop graceful-kill].freeze
  LACKING = %w[
    cleanse deploy-page diff-config geo get-redis-master-name patroni pg-decomposition-migration
    pg-password-md5 pg-upgrade praefect promote promtool prometheus-upgrade reconfigure-node
    remove-accounts replicate-geo-database revert-pg-upgrade set-replication-password uninstall upgrade-check
    write-pgpass
  ].freeze
  NEEDED_BY_MIGRATIONS = %w[postgresql].freeze
  SVDIR = { 'SVDIR' => Services::SERVICE }.freeze
  SKIP_RECONFIGURE = '/etc/gitlab/skip-auto-reconfigure'
  RECONFIGURE_FAILED = <<~TEXT
    ===
    There was an error running gitlab-ctl reconfigure. Please check the output above for more
    details.
    ===
  TEXT
  USAGE = <<~TEXT
    gitlab-ctl: command (subcommand)   [stand-in package: see /opt/gitlab/version-manifest.txt]
    backup-etc | check-config | reconfigure | renew-le-certs | registry-database | registry-garbage-collect | show-config | upgrade
    version
    status | start | stop | restart | hup | term | int | kill | once | tail   [service]
  TEXT

  def call(arguments)
    command, *rest = arguments
    return usage(command ? 0 : 1) if [nil, 'help', '--help', '-h'].include?(command)
    return refuse('This command must be executed as root user', 1) unless Process.uid.zero?

    case command
    when 'tail' then tail(rest.first)
    when *SERVICE_COMMANDS then service(command, rest.first)
    else other(command, rest)
    end
  end

  def service(command, name)
    names = name ? [name] : Services.enabled
    return refuse("fail: #{name}: unable to change to service directory: file does not exist", 1) if
      name && !Services.enabled.include?(name)

    names.sum { |each| command == 'status' ? status(each) : sv(command, each) }
  end

  private

  def other(command, rest)
    case command
    when 'reconfigure' then reconfigure
    when 'renew-le-certs' then renew
    when 'backup-etc' then BackupEtc.call(rest)
    when 'registry-garbage-collect' then garbage_collect(rest)
    when 'registry-database' then RegistryDatabase.new(self).call(rest)
    when 'show-config' then guarded { show_config }
    when 'check-config' then guarded { configuration && 0 }
    when 'upgrade' then upgrade
    when 'service-list' then Services.enabled.each { |name| puts "#{name}*" } && 0
    when 'version' then puts(File.read('/opt/gitlab/embedded/version').strip) || 0
    when *LACKING then refuse("#{command}: this gitlab-ce is a stand-in and does not support this command", 1)
    else usage(1, "I don't know that command: #{command}")
    end
  end

  def usage(code, message = nil)
    warn message if message
    (code.zero? ? $stdout : $stderr).puts USAGE
    code
  end

  def refuse(message, code)
    warn message
    code
  end

  # Runs the block, and says what was wrong without a traceback of ours.
  def guarded
    yield
  rescue ConfigError, Resources::Failure => e
    failed(e.message)
  rescue StandardError, ScriptError => e
    # Most of these come out of gitlab.rb itself; its own lines say where.
    where = e.backtrace.to_a.find { |line| line.start_with?('/etc/gitlab') } || e.backtrace.first
    failed("#{e.class}: #{e.message.lines.first.to_s.strip} (#{where})")
  end

  def failed(message)
    puts
    # In red, as the package's exception handler has it.
    puts "\e[31mThere was an error running gitlab-ctl reconfigure:\e[0m"
    puts
    puts "\e[31m#{message}\e[0m"
    puts
    $stdout.flush
    1
  end

  def reconfigure
    File.open('/opt/gitlab/embedded/reconfigure.lock', File::RDWR | File::CREAT, 0o600) do |lock|
      puts 'Waiting for another reconfigure to end' unless lock.flock(File::LOCK_EX | File::LOCK_NB)
      lock.flock(File::LOCK_EX)
      guarded { Reconfigure.new.run }
    end
  end

  def renew
    guarded do
      config = configuration
      raise ConfigError, "Let's Encrypt is not enabled" unless config.letsencrypt?

      Resources.reset
      Services.reload_nginx if LetsEncrypt.new(config).ensure_certificate
      puts 'gitlab Reconfigured!'
      0
    end
  end

  # As in the real one, what a failed reconfigure leaves stopped stays so: the next upgrade starts what ran before it.
  def upgrade
    return refuse('It looks like GitLab has not been configured yet; skipping the upgrade script.', 0) if
      Services.enabled.empty?
    return upgraded("Found #{SKIP_RECONFIGURE}, exiting...") if File.exist?(SKIP_RECONFIGURE)

    running = Services.enabled.select { |name| Services.up?(name) }
    puts 'Shutting down all GitLab services except those needed for migrations'
    (Services.enabled - NEEDED_BY_MIGRATIONS).each { |name| sv('stop', name) }
    puts 'Reconfigure GitLab to apply migrations'
    code = reconfigure
    return refuse(RECONFIGURE_FAILED, code) unless code.zero?

    puts 'Restarting previously running GitLab services'
    (Services.enabled & running).each { |name| sv('start', name) }
    upgraded
  end

  def upgraded(*notes)
    puts(*notes, 'Upgrade complete! If your GitLab server is misbehaving try running', '  sudo gitlab-ctl restart',
         'before anything else.')
    0
  end

  def configuration
    Configuration.read(secrets: Secrets.new.values)
  end

  def show_config
    configuration.values.sort.each do |section, value|
      puts JSON.pretty_generate(section => masked(value))
    end
    0
  end

  # The output is often pasted somewhere: what looks like a secret is not in it.
  def masked(value, name = '')
    case value
    when Hash then value.to_h { |key, inner| [key, masked(inner, key)] }
    when Array then value.map { |inner| masked(inner, name) }
    else value.is_a?(String) && name.match?(/password|secret|token|accesskey|access_key|_key\z/) ? '[masked]' : value
    end
  end

  def sv(command, name)
    system(SVDIR, 'sv', '-w', '60', command, name)
    $?.exitstatus
  end

  # Exit codes of an init script: 0 runs, 3 is down, 4 can not be told.
  def status(name)
    line, = Open3.capture2(SVDIR, 'sv', 'status', name)
    puts line
    { 'run' => 0, 'down' => 3 }.fetch(line[/\A\w+/], 4)
  end

  def tail(name)
    where = name ? "#{Services::LOGS}/#{name}" : Services::LOGS
    files = Dir["#{where}/**/*"].select { |path| File.file?(path) && path.match?(%r{/current\z|\.log\z}) }
    return refuse("no logs in #{where}", 1) if files.empty?

    exec('tail', '--follow=name', '--retry', *files)
  end

  def garbage_collect(arguments)
    return refuse('Container registry is not enabled, exiting...', 1) unless Services.enabled.include?('registry')

    options, paths = arguments.partition { |argument| argument.start_with?('-') }
    config = paths.first || "#{Registry::HOME}/config.yml"
    return refuse("Didn't find #{config}, please supply the path to registry configuration file", 1) unless
      File.exist?(config)

    service('stop', 'registry')
    ok = system('chpst', '-u', 'registry', '/opt/gitlab/embedded/bin/registry', 'garbage-collect', *options, config)
    service('start', 'registry')
    ok ? 0 : refuse('Failed to run garbage-collect command, starting registry service.', 1)
  end
end
