# frozen_string_literal: true

require 'fileutils'
require 'optparse'

# gitlab-ctl backup-etc: /etc/gitlab as one archive, readable by root alone.
module BackupEtc
  SOURCE = '/etc/gitlab'

  module_function

  def call(arguments)
    folder = "#{SOURCE}/config_backup"
    parser = OptionParser.new do |options|
      options.on('-p', '--backup-path PATH') { |path| folder = File.expand_path(path) }
      options.on('--[no-]delete-old-backups') { |_| nil }
    end
    parser.parse!(arguments)
    archive(folder)
  rescue OptionParser::ParseError => e
    warn e.message
    1
  end

  def archive(folder)
    unless File.exist?(folder)
      puts "Could not find '#{folder}' directory. Creating."
      FileUtils.mkdir(folder, mode: 0o700)
    end
    name = "gitlab_config_#{Time.now.strftime('%s_%Y_%m_%d')}.tar"
    puts "Running configuration backup\nCreating configuration backup archive: #{name}"
    target = File.join(folder, name)
    done = system('tar', '--absolute-names', '--verbose', '--create', '--file', target, '--exclude', folder, '--', SOURCE)
    FileUtils.chmod(0o600, target) if File.exist?(target)
    return 1 unless done

    puts "Configuration backup archive complete: #{target}"
    0
  end
end
