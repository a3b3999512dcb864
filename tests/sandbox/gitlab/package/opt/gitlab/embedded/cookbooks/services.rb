# frozen_string_literal: true

require_relative 'resources'

# Services under runit: /opt/gitlab/sv holds their scripts, /opt/gitlab/service links those that are on.
module Services
  SV = '/opt/gitlab/sv'
  SERVICE = '/opt/gitlab/service'
  LOGS = '/var/log/gitlab'
  BOOTSTRAPPED = '/var/opt/gitlab/bootstrapped'

  module_function

  def enabled
    Dir.children(SERVICE).sort
  rescue Errno::ENOENT
    []
  end

  # Scripts of a service, and the link that puts it under supervision. They hold the version of the package, so that
  # services which run while another one is configured are restarted. All are defined before the first is waited for: runsvdir looks for new ones only
  # every five seconds.
  def define(name, template, values, log_owner: 'root', mode: 0o755, controls: [])
    Resources.directory("#{SV}/#{name}/log")
    controls.each { |signal| control(name, signal) }
    Resources.directory("#{LOGS}/#{name}", owner: log_owner, mode: 0o700)
    Resources.template("#{SV}/#{name}/log/run", 'log_run.erb', { directory: "#{LOGS}/#{name}", user: log_owner },
                       mode: 0o755)
    Resources.file("#{LOGS}/#{name}/config", "s209715200\nn30\nt86400\n!gzip\n", owner: log_owner)
    Resources.template("#{SV}/#{name}/run", template, values.merge(version: version), mode:)
    fresh << name if Resources.link("#{SERVICE}/#{name}", "#{SV}/#{name}")
  end

  # What runit runs instead of sending a signal.
  def control(name, signal)
    Resources.directory("#{SV}/#{name}/control")
    Resources.template("#{SV}/#{name}/control/#{signal}", "#{name}_control_#{signal}.erb", {}, mode: 0o755)
  end

  # Services that this reconfigure has put under supervision; they start by themselves, unless a file `down` is there.
  def fresh
    @fresh ||= []
  end

  def up?(name)
    line, = Open3.capture2('sv', 'status', "#{SERVICE}/#{name}")
    line.start_with?('run:')
  end

  def version
    File.read('/opt/gitlab/embedded/version').strip
  end

  # Waits until a service is supervised, and restarts it when one of the files that it read at its start is newer than
  # that. As in the real one, only the first reconfigure starts a service that somebody has stopped; it answers whether
  # the service runs. With `always`, any reconfigure starts it.
  def enable(name, *files, always: false)
    control = "#{SV}/#{name}/supervise/ok"
    Resources.wait_for("runit_service[#{name}] (is gitlab-runsvdir running?)", 30) { open?(control) }
    starts = fresh.include?(name) && !File.exist?("#{SV}/#{name}/down")
    unless always || starts || up?(name) || !File.exist?(BOOTSTRAPPED)
      Resources.did("runit_service[#{name}]", 'enable', false)
      return false
    end

    stale = newer?(["#{SV}/#{name}/run", *files], "#{SV}/#{name}/supervise/pid")
    action = stale ? 'restart' : 'start'
    Resources.run('sv', '-w', '60', action, "#{SERVICE}/#{name}", name: "runit_service[#{name}]")
    Resources.did("runit_service[#{name}]", action, stale)
    true
  end

  # Has a service read its files again.
  def hup(name)
    Resources.run('sv', 'hup', "#{SERVICE}/#{name}", name: "runit_service[#{name}]")
    Resources.did("runit_service[#{name}]", 'hup', true)
  end

  def newer?(files, than)
    !File.exist?(than) || files.any? { |path| File.exist?(path) && File.mtime(path) > File.mtime(than) }
  end

  def disable(name)
    return unless File.symlink?("#{SERVICE}/#{name}")

    Resources.run('sv', '-w', '60', 'force-stop', "#{SERVICE}/#{name}")
    File.delete("#{SERVICE}/#{name}")
    Resources.did("runit_service[#{name}]", 'disable', true)
  end

  # Has nginx read its files again, and returns only when no worker with the old ones takes connections any more.
  def reload_nginx
    master = Resources.run('cat', '/var/opt/gitlab/nginx/nginx.pid', name: 'pid of nginx').strip
    before = workers(master)
    Resources.run('sv', 'hup', "#{SERVICE}/nginx", name: 'runit_service[nginx]')
    Resources.wait_for('reload of nginx', 30) do
      now = workers(master)
      !(now - before).empty? && (now & before).empty?
    end
    Resources.did('runit_service[nginx]', 'hup', true)
  end

  # Process ids of the workers that take connections.
  def workers(master)
    lines, = Open3.capture2('pgrep', '-a', '-P', master)
    lines.lines.reject { |line| line.include?('shutting down') }.map { |line| line[/\A\d+/] }
  end

  # A supervise directory can be left from before a reboot: it counts only when something reads its pipe.
  def open?(pipe)
    File.open(pipe, File::WRONLY | File::NONBLOCK).close
    true
  rescue SystemCallError
    false
  end
end
