# frozen_string_literal: true

# Evaluates /etc/gitlab/gitlab.rb: sections are hashes that grow as they are written to, scalars are methods.
#
# Stricter than the real package in one point: an unknown key inside of a known section is refused here, where the real
# one takes it silently and does nothing. Unknown sections are refused by both.

# A mistake in the configuration: reported without a traceback.
class ConfigError < StandardError; end

# A section: keys may be strings or symbols; a missing key becomes a section of its own while the file is read.
class ConfigMash < Hash
  class << self
    attr_accessor :vivify
  end

  def [](key)
    key = key.to_s
    store(key, ConfigMash.new) if ConfigMash.vivify && !key?(key)
    fetch(key, nil)
  end

  def []=(key, value)
    store(key.to_s, ConfigMash.plain(value))
  end

  def dig(first, *rest)
    value = fetch(first.to_s, nil)
    rest.empty? || value.nil? ? value : value.dig(*rest)
  end

  # Without the empty sections that reading a key left behind.
  def compact_reads
    each_with_object(ConfigMash.new) do |(key, value), kept|
      value = value.compact_reads if value.is_a?(ConfigMash)
      kept.store(key, value) unless value.is_a?(ConfigMash) && value.empty?
    end
  end

  # Hashes with string keys all the way down.
  def self.plain(value)
    case value
    when ConfigMash then value
    when Hash then value.to_h { |key, inner| [key.to_s, plain(inner)] }
    when Array then value.map { |inner| plain(inner) }
    when Symbol then value.to_s
    else value
    end
  end
end

# The known names, read from config_keys.txt.
module ConfigKeys
  FILE = File.join(__dir__, 'config_keys.txt')

  def self.load
    table = {}
    current = nil
    File.foreach(FILE, chomp: true) do |line|
      next if line.start_with?('#') || line.strip.empty?

      current, line = line.split(':', 2) unless line.start_with?(' ')
      (table[current] ||= []).concat(line.split)
    end
    [table.delete('scalars'), table.delete('service_nginx'), table]
  end

  SCALARS, SERVICE_NGINX, SECTIONS = load

  # Sections that still are translated to a newer name, with a word about it.
  TRANSLATED = {
    'registry_nginx' => 'registry', 'pages_nginx' => 'gitlab_pages', 'gitlab_kas_nginx' => 'gitlab_kas'
  }.freeze

  # Sections that are gone, and in which version they went.
  REMOVED = {
    'mattermost' => '19.0', 'mattermost_nginx' => '19.0', 'spamcheck' => '19.0', 'git_data_dirs' => '18.0',
    'unicorn' => '14.0', 'remote_syslog' => '10.0', 'mattermost_external_url' => '19.0', 'grafana' => '16.3'
  }.freeze
end

# What `self` is while gitlab.rb is read.
class Settings
  attr_reader :deprecations

  def initialize
    @values = {}
    @deprecations = []
  end

  # Evaluates a file; also callable from inside of one.
  def from_file(path)
    raise ConfigError, "from_file: #{path} does not exist" unless File.exist?(path)

    before = ConfigMash.vivify
    ConfigMash.vivify = true
    instance_eval(File.read(path), path)
    self
  rescue SyntaxError => e
    # The message quotes the line, as it does in the real package: no secret is safe there.
    raise ConfigError, e.message
  ensure
    ConfigMash.vivify = before
  end

  # Everything as plain hashes, checked and translated.
  def finish
    @values = @values.transform_values { |value| value.is_a?(ConfigMash) ? value.compact_reads : value }
    @values.reject! { |_, value| value.is_a?(ConfigMash) && value.empty? }
    translate
    check_keys
    @values
  end

  private

  def respond_to_missing?(*)
    false
  end

  def method_missing(name, *args)
    key = name.to_s.delete_suffix('=')
    refuse_removed(key)
    return scalar(key, args) if ConfigKeys::SCALARS.include?(key)

    refuse_unknown(key, args)
    @values[key] ||= ConfigMash.new
    return @values[key] if args.empty?

    args.first.each { |inner, value| @values[key][inner] = value }
    @values[key]
  end

  def scalar(key, args)
    return @values[key] if args.empty?

    @values[key] = args.length == 1 ? ConfigMash.plain(args.first) : args
  end

  # In the words of Mixlib::Config in its strict mode, which the package turns on while it reads the file.
  def refuse_unknown(key, args)
    return if ConfigKeys::SECTIONS.key?(key) || ConfigKeys::TRANSLATED.key?(key)

    raise ConfigError, "#{args.empty? ? 'Reading' : 'Cannot set'} unsupported config value #{key}."
  end

  def refuse_removed(key)
    version = ConfigKeys::REMOVED[key]
    return unless version

    raise ConfigError, <<~TEXT.strip
      Removed configurations found in gitlab.rb. Aborting reconfigure.
      * #{key} has been removed in GitLab #{version}. Remove it from /etc/gitlab/gitlab.rb and run reconfigure again.
    TEXT
  end

  def translate
    ConfigKeys::TRANSLATED.each do |old, section|
      next unless (found = @values.delete(old))

      move_nginx(found, section, "#{old}['%s']")
    end
    return unless @values['nginx']

    # Process-level keys stay under nginx[...]; those of GitLab's own server block went to gitlab_rails['nginx'].
    server = @values['nginx'].reject { |key, _| ConfigKeys::SECTIONS['nginx'].include?(key) }
    server = server.select { |key, _| ConfigKeys::SERVICE_NGINX.include?(key) }
    server.each_key { |key| @values['nginx'].delete(key) }
    move_nginx(server, 'gitlab_rails', "nginx['%s']") unless server.empty?
  end

  def move_nginx(found, section, old_form)
    target = (@values[section] ||= ConfigMash.new)
    target.store('nginx', ConfigMash.new) unless target.key?('nginx')
    found.each do |key, value|
      old = format(old_form, key)
      @deprecations << "#{old} is deprecated since 19.2 and will be removed in 20.0. " \
                       "Use #{section}['nginx']['#{key}'] instead."
      target['nginx'].store(key, value) unless target['nginx'].key?(key)
    end
  end

  def check_keys
    unknown = @values.flat_map do |section, value|
      next [] unless value.is_a?(ConfigMash)

      known = ConfigKeys::SECTIONS.fetch(section, [])
      names = (value.keys - known).map { |key| "#{section}['#{key}']" }
      nginx = value['nginx'].is_a?(Hash) ? value['nginx'].keys - ConfigKeys::SERVICE_NGINX : []
      names + nginx.map { |key| "#{section}['nginx']['#{key}']" }
    end
    return if unknown.empty?

    raise ConfigError, "Encountered unsupported config key#{'s' if unknown.size > 1} #{unknown.join(', ')} " \
                       'in /etc/gitlab/gitlab.rb.'
  end
end
