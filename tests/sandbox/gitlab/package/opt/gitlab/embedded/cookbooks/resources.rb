# frozen_string_literal: true

require 'etc'
require 'fileutils'
require 'open3'
require 'erb'
require 'socket'

# The few kinds of thing that a reconfigure makes. Each says what it changed; an unchanged one is silent and counted.
module Resources
  class Failure < StandardError; end

  class << self
    attr_reader :total, :updated

    def reset
      @total = 0
      @updated = 0
    end

    def recipe(name)
      puts "Recipe: #{name}"
      yield
    end

    def did(resource, action, changed)
      @total += 1
      if changed
        @updated += 1
        puts "  * #{resource} action #{action}"
      else
        puts "  * #{resource} action #{action} (up to date)"
      end
      $stdout.flush
      changed
    end

    def directory(path, owner: 'root', group: 'root', mode: 0o755)
      missing = !File.directory?(path)
      FileUtils.mkdir_p(path) if missing
      changed = own(path, owner, group, mode) || missing
      did("directory[#{path}]", 'create', changed)
    end

    # Written through a file beside it that is never readable by others, so that a secret is never open for a moment.
    def file(path, content, owner: 'root', group: 'root', mode: 0o644)
      differs = !File.file?(path) || File.binread(path) != content.b
      if differs
        fresh = "#{path}.new"
        FileUtils.rm_f(fresh)
        File.open(fresh, File::WRONLY | File::CREAT | File::EXCL, 0o600) { |io| io.write(content) }
        own(fresh, owner, group, mode)
        File.rename(fresh, path)
      end
      changed = own(path, owner, group, mode) || differs
      did("file[#{path}]", 'create', changed)
    end

    def template(path, name, values, **options)
      source = File.read(File.join(__dir__, 'templates', name))
      file(path, ERB.new(source, trim_mode: '-').result_with_hash(values), **options)
    end

    def link(path, target)
      return did("link[#{path}]", 'create', false) if File.symlink?(path) && File.readlink(path) == target

      FileUtils.ln_sf(target, path)
      did("link[#{path}]", 'create', true)
    end

    def delete(path)
      found = File.exist?(path) || File.symlink?(path)
      FileUtils.rm_rf(path) if found
      did("file[#{path}]", 'delete', found)
    end

    # A system account without a login.
    def account(user, group, home, shell: '/bin/false', uid: nil, gid: nil)
      ensure_group(group, gid)
      Etc.getpwnam(user)
      did("account[#{user}]", 'create', false)
    rescue ArgumentError
      command = ['useradd', '--system', '--no-create-home', '--gid', group, '--home-dir', home, '--shell', shell]
      command += ['--uid', uid.to_s] if uid
      run(*command, user)
      did("account[#{user}]", 'create', true)
    end

    # Runs a program; its output only shows when it fails.
    def run(*command, env: {}, input: nil, name: command.first)
      output, status = Open3.capture2e(env, *command, stdin_data: input.to_s, chdir: '/')
      return output if status.success?

      raise Failure, "#{name} failed (exit #{status.exitstatus}):\n#{output.strip}"
    end

    # Waits until the block is true; no longer than `seconds`.
    def wait_for(what, seconds)
      deadline = now + seconds
      until yield
        raise Failure, "#{what}: not there after #{seconds} s" if now > deadline

        sleep 0.05
      end
    end

    def listening?(port, host = '127.0.0.1')
      Socket.tcp(host, port, connect_timeout: 1).close
      true
    rescue SystemCallError
      false
    end

    private

    def ensure_group(group, gid)
      Etc.getgrnam(group)
    rescue ArgumentError
      run(*['groupadd', '--system', *(gid ? ['--gid', gid.to_s] : []), group])
    end

    def own(path, owner, group, mode)
      stat = File.stat(path)
      uid = Etc.getpwnam(owner).uid
      gid = Etc.getgrnam(group).gid
      same = stat.uid == uid && stat.gid == gid && (stat.mode & 0o7777) == mode
      return false if same

      File.chown(uid, gid, path)
      File.chmod(mode, path)
      true
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
