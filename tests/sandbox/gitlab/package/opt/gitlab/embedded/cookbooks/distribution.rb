# frozen_string_literal: true

require 'fileutils'
require 'json'
require 'uri'
require 'yaml'

# From the configuration of GitLab's registry to that of the Docker distribution.
#
# Refused here, at the start of the registry, is what GitLab's own refuses there: reconfigure does not look at it.
module Distribution
  class Refused < StandardError; end

  PROGRAM = '/usr/bin/docker-registry'
  REGISTRY = ['/opt/gitlab/embedded/bin/registry'].freeze
  # What is in front of the distribution.
  FRONT = ['/usr/bin/python3', '-P', '-m', 'gitlab_registry'].freeze
  ENVIRONMENT = { 'PYTHONPATH' => '/opt/gitlab/embedded/service/registry', 'PYTHONDONTWRITEBYTECODE' => '1' }.freeze
  S3_NAMES = %w[s3 s3aws s3_v2].freeze
  # Drivers that GitLab's registry has and this one has not.
  NOT_SUPPORTED = %w[azure azure_v2 gcs].freeze
  # Parameters of s3_v2, each with the name that the distribution gives it; nil: it has nothing like it.
  S3_PARAMETERS = {
    'accesskey' => 'accesskey', 'secretkey' => 'secretkey', 'sessiontoken' => 'sessiontoken', 'region' => 'region',
    'regionendpoint' => 'regionendpoint', 'bucket' => 'bucket', 'rootdirectory' => 'rootdirectory',
    'storageclass' => 'storageclass', 'objectacl' => 'objectacl', 'encrypt' => 'encrypt', 'keyid' => 'keyid',
    'secure' => 'secure', 'skipverify' => 'skipverify', 'chunksize' => 'chunksize',
    'multipartcopychunksize' => 'multipartcopychunksize',
    'multipartcopymaxconcurrency' => 'multipartcopymaxconcurrency',
    'multipartcopythresholdsize' => 'multipartcopythresholdsize', 'pathstyle' => nil, 'objectownership' => nil,
    'maxrequestspersecond' => nil, 'maxretries' => nil, 'parallelwalk' => nil, 'loglevel' => nil,
    'checksum_disabled' => nil, 'checksum_algorithm' => nil
  }.freeze
  SHARED = %w[cache delete redirect maintenance].freeze
  GC_REFUSED = 'the garbage-collect command is not compatible with database metadata, please use online garbage ' \
               'collection instead'

  module_function

  def read(path)
    YAML.safe_load_file(path)
  rescue Errno::ENOENT, Errno::EACCES, Psych::Exception => e
    raise Refused, "configuration error: error parsing #{path}: #{e.class}"
  end

  def translate(document)
    storage = document.fetch('storage', {})
    driver = driver_of(storage)
    own = S3_NAMES.include?(driver) ? s3(storage[driver] || {}) : storage[driver] || {}
    shared = storage.slice(*SHARED)
    document.except('storage', 'database', 'gc').merge(
      'storage' => { (S3_NAMES.include?(driver) ? 's3' : driver) => own }.merge(shared)
    )
  end

  def driver_of(storage)
    drivers = storage.keys - SHARED
    raise Refused, 'configuration error: no storage configuration provided' if drivers.empty?
    raise Refused, "configuration error: multiple storage drivers specified: #{drivers.join(', ')}" if drivers.size > 1

    driver = drivers.first
    raise Refused, "storage driver #{driver} is not supported by this stand-in" if NOT_SUPPORTED.include?(driver)

    known = S3_NAMES + %w[filesystem inmemory]
    raise Refused, "failed to construct #{driver} driver: StorageDriver not registered: #{driver}" unless
      known.include?(driver)

    driver
  end

  def s3(given)
    check_s3(given)
    given.keys.each do |name|
      next if S3_PARAMETERS.key?(name)

      note = name == 'v4auth' ? 'is not supported by s3_v2 and is ignored' : 'is not known and is ignored'
      warn "level=warning msg=\"storage driver parameter #{name} #{note}\""
    end
    names = S3_PARAMETERS.compact
    translated = given.slice(*names.keys).transform_keys(names)
    # Without keys the distribution asks the machine for a role, as GitLab's does.
    translated['v4auth'] = true
    translated['region'] = 'us-east-1' if blank?(translated['region'])
    translated
  end

  def check_s3(given)
    endpoint = given['regionendpoint'].to_s
    raise Refused, 'failed to construct s3_v2 driver: no "bucket" parameter provided' if blank?(given['bucket'])
    raise Refused, 'failed to construct s3_v2 driver: no "region" parameter provided' if
      blank?(given['region']) && endpoint.empty?

    check_booleans(given)
    return if endpoint.empty? || endpoint.match?(%r{\Ahttps?://[^/\s]+})

    raise Refused, 'failed to construct s3_v2 driver: operation error S3: HeadObject, failed to resolve service ' \
                   "endpoint, endpoint rule error, Custom endpoint `#{endpoint}` was not a valid URI"
  end

  def check_booleans(given)
    %w[encrypt secure skipverify pathstyle parallelwalk checksum_disabled].each do |name|
      value = given[name]
      next if value.nil? || [true, false].include?(value) || %w[true false].include?(value.to_s.downcase)

      raise Refused, "failed to construct s3_v2 driver: the #{name} parameter should be a boolean"
    end
  end

  def blank?(value)
    value.nil? || value.to_s.empty?
  end

  # The translated file is beside the other one, and as secret.
  def write(document, path)
    target = "#{path.delete_suffix('.yml')}.distribution.yml"
    FileUtils.rm_f(target)
    File.open(target, File::WRONLY | File::CREAT | File::EXCL, 0o600) { |io| io.write(JSON.pretty_generate(document)) }
    target
  end

  def serve(document, path)
    exec(ENVIRONMENT, *FRONT, 'serve', path, write(translate(document), path), PROGRAM)
  end

  def database(arguments)
    exec(ENVIRONMENT, *FRONT, 'database', *arguments)
  end

  def garbage_collect(document, path, options)
    enabled = document.dig('database', 'enabled')
    raise Refused, GC_REFUSED unless enabled.to_s == 'false'

    known = { '-d' => '--dry-run', '--dry-run' => '--dry-run', '-m' => '--delete-untagged',
              '--delete-untagged' => '--delete-untagged' }
    options = options.map { |option| known[option] || raise(Refused, "unknown flag: #{option}") }
    exec(PROGRAM, 'garbage-collect', *options, write(translate(document), path))
  end
end
