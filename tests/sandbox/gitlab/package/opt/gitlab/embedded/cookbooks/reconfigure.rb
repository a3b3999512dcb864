# frozen_string_literal: true

require_relative 'configuration'
require_relative 'letsencrypt'
require_relative 'monitoring'
require_relative 'postgresql'
require_relative 'registry'
require_relative 'resources'
require_relative 'secrets'
require_relative 'services'
require_relative 'web'

# Brings the machine to what gitlab.rb says. Safe to run again at any time; what is already right is left alone.
class Reconfigure
  UNIT = '/usr/lib/systemd/system/gitlab-runsvdir.service'

  def run
    started = Time.now
    Resources.reset
    puts 'Starting GitLab infra phase (stand-in package, see /opt/gitlab/version-manifest.txt)'
    @secrets = Secrets.new.complete
    @config = Configuration.read(secrets: @secrets.values)
    @letsencrypt = @config.letsencrypt?
    recipes
    finish(Time.now - started)
  end

  private

  def recipes
    Resources.recipe('gitlab::default') { base }
    Resources.recipe('gitlab::trusted_certs') { trust }
    postgresql = Postgresql.new(@config)
    # Before the supervisor: it sees what is there when it starts, and only then and again.
    Resources.recipe('postgresql::enable') { postgresql.prepare }
    Resources.recipe('runit::systemd') { runsvdir }
    Resources.recipe('postgresql::database_objects') { postgresql.start }
    web = Web.new(@config, @secrets.values)
    registry = Registry.new(@config, @secrets.values)
    monitoring = Monitoring.new(@config)
    Resources.recipe('gitlab::gitlab-rails') { web.files }
    Resources.recipe('gitlab::database_migrations') { web.database }
    Resources.recipe('gitlab::puma') { web.prepare }
    Resources.recipe('registry::enable') { registry.prepare }
    Resources.recipe('nginx::enable') { prepare_nginx }
    Resources.recipe('monitoring::enable') { monitoring.prepare }
    Resources.recipe('runit::services') { start(web, registry, monitoring) }
    Resources.recipe('letsencrypt::enable') { certificate } if @letsencrypt
    @notes = web.notes
    Resources.file(Services::BOOTSTRAPPED, '', mode: 0o600)
  end

  def start(*services)
    services.each(&:start)
    start_nginx
  end

  def base
    account('web_server', 'gitlab-www', '/var/opt/gitlab/nginx')
    account('user', 'git', '/var/opt/gitlab', shell: '/bin/sh')
    account('registry', 'registry', '/var/opt/gitlab/registry')
    account('postgresql', 'gitlab-psql', '/var/opt/gitlab/postgresql', shell: '/bin/sh')
    Resources.directory('/etc/gitlab', mode: 0o775)
    Resources.directory('/etc/gitlab/trusted-certs')
    %w[/var/opt/gitlab /var/log/gitlab].each { |path| Resources.directory(path) }
    Resources.directory(Services::SV)
    Resources.directory(Services::SERVICE)
    auto = @letsencrypt && @config.get('letsencrypt', 'enable').nil?
    @secrets.values['letsencrypt'] = { 'auto_enabled' => true } if auto
    @secrets.write
  end

  def account(section, name, home, shell: '/bin/false')
    Resources.account(name, name, home, shell:, uid: @config.get(section, 'uid'), gid: @config.get(section, 'gid'))
  end

  # One bundle of what the machine trusts and of what was put into trusted-certs.
  def trust
    own = Dir['/etc/gitlab/trusted-certs/*.{crt,pem}'].map { |path| File.read(path) }
    own.each { |text| OpenSSL::X509::Certificate.new(text) }
    Resources.directory(File.dirname(LetsEncrypt::BUNDLE))
    Resources.file(LetsEncrypt::BUNDLE, [File.read('/etc/ssl/certs/ca-certificates.crt'), *own].join("\n"))
  rescue OpenSSL::X509::CertificateError
    raise ConfigError, 'A file in /etc/gitlab/trusted-certs is not a certificate in PEM or DER form.'
  end

  def runsvdir
    return running_without_systemd unless File.directory?('/run/systemd/system')

    changed = Resources.template(UNIT, 'gitlab-runsvdir.service.erb', { config: @config })
    Resources.run('systemctl', 'daemon-reload') if changed
    Resources.run('systemctl', 'enable', '--now', 'gitlab-runsvdir.service')
    Resources.did('service[gitlab-runsvdir]', 'start', changed)
  end

  def running_without_systemd
    return if system('pgrep', '-f', "runsvdir -P #{Services::SERVICE}", out: File::NULL)

    raise Resources::Failure, 'runsvdir is not running, and there is no systemd to start it: run ' \
                              '/opt/gitlab/embedded/bin/runsvdir-start first'
  end

  def prepare_nginx
    nginx_directories
    LetsEncrypt.new(@config).placeholder if @letsencrypt
    nginx_files
    Services.define('nginx', 'nginx_run.erb', {})
  end

  # A changed configuration restarts it. Certificates are not looked at: a running nginx keeps what it has loaded.
  def start_nginx
    return unless Services.enable('nginx', *Dir['/var/opt/gitlab/nginx/conf/**/*.conf'])

    addresses = @config.listen_addresses
    host = addresses.include?('*') ? '127.0.0.1' : addresses.first.delete('[]')
    Resources.wait_for('nginx (see /var/log/gitlab/nginx/current)', 15) { Resources.listening?(nginx_port, host) }
  end

  def nginx_port
    @config.redirects? ? @config.nginx_options['redirect_http_to_https_port'] : @config.listen_port
  end

  # Without nginx nobody could validate a name.
  def certificate
    return renewal unless Services.up?('nginx')

    Services.reload_nginx if LetsEncrypt.new(@config).ensure_certificate
    renewal
  end

  def nginx_directories
    Resources.directory(Configuration::SSL_DIR) if @config.https?
    Resources.directory('/var/opt/gitlab/nginx', group: 'gitlab-www', mode: 0o750)
    %w[conf conf/service_conf www].each { |name| Resources.directory("/var/opt/gitlab/nginx/#{name}") }
    Resources.directory("#{Services::LOGS}/nginx", mode: 0o700)
    Resources.directory('/var/opt/gitlab/nginx/temp', owner: 'gitlab-www', mode: 0o700)
  end

  def nginx_files
    conf = '/var/opt/gitlab/nginx/conf'
    values = { config: @config, options: @config.nginx_options, certificate: @config.certificate }
    Resources.template("#{conf}/nginx.conf", 'nginx.conf.erb', values)
    Resources.template("#{conf}/service_conf/gitlab-rails.conf", 'nginx-gitlab.conf.erb', values)
    registry_file("#{conf}/service_conf/gitlab-registry.conf")
  end

  def registry_file(path)
    return Resources.delete(path) unless @config.registry? && @config.get('registry', 'nginx', 'enable') != false

    values = { config: @config, certificate: @config.registry_certificate }
    Resources.template(path, 'nginx-registry.conf.erb', values)
  end

  # The real package has a cron daemon of its own for this; here it is the machine's.
  def renewal
    path = '/etc/cron.d/gitlab-letsencrypt'
    return Resources.delete(path) unless @config.get('letsencrypt', 'auto_renew', default: true)

    minute = @config.get('letsencrypt', 'auto_renew_minute') || (Socket.gethostname.sum % 60)
    hour = @config.get('letsencrypt', 'auto_renew_hour', default: 0)
    day = @config.get('letsencrypt', 'auto_renew_day_of_month', default: '*/4')
    Resources.file(path, "#{minute} #{hour} #{day} * * root /opt/gitlab/bin/gitlab-ctl renew-le-certs >/dev/null\n")
  end

  def finish(seconds)
    puts
    puts 'Running handlers:'
    @config.deprecations.each { |line| puts "Deprecation: #{line}" }
    puts 'Running handlers complete'
    puts "Infra Phase complete, #{Resources.updated}/#{Resources.total} resources updated in #{seconds.round} seconds"
    @notes.each { |line| puts line }
    puts 'gitlab Reconfigured!'
    0
  end
end
