# frozen_string_literal: true

# Asks a directory who signs in, with the library and the calls that GitLab has for it (OmniAuth's strategy for LDAP, and
# Gitlab::Auth::Ldap::Config). Reads a server of gitlab.rb, a name and a password from standard input, as JSON; prints a
# person, or null if the directory does not accept them. Whatever else goes wrong is the last line of standard error.

require 'json'
require 'net/ldap'

server, username, password = JSON.parse($stdin.read).values_at('server', 'username', 'password')

METHODS = { 'simple_tls' => :simple_tls, 'start_tls' => :start_tls }.freeze
ATTRIBUTES = { username: %w[uid sAMAccountName userid], email: %w[mail email userPrincipalName], name: %w[cn] }.freeze
# Active Directory's bit for accounts that are disabled.
DISABLED = Net::LDAP::Filter.ex('userAccountControl:1.2.840.113556.1.4.803', '2')

def encryption(server)
  method = METHODS[server['encryption']]
  return unless method

  verified = server['verify_certificates'] ? OpenSSL::SSL::SSLContext::DEFAULT_PARAMS.dup : { verify_mode: 0 }
  { method: method, tls_options: verified.merge((server['tls_options'] || {}).transform_keys(&:to_sym)) }
end

def filter(server, username)
  wanted = Net::LDAP::Filter.eq(server['uid'], Net::LDAP::Filter.escape(username))
  more = server['user_filter'].to_s
  more.empty? ? wanted : Net::LDAP::Filter.join(wanted, Net::LDAP::Filter.construct(more))
end

def connection(server)
  options = { host: server['host'], port: server['port'], base: server['base'], encryption: encryption(server),
              connect_timeout: server['timeout'] }
  if server['bind_dn']
    options[:auth] = { method: :simple, username: server['bind_dn'], password: server['password'] }
  end
  Net::LDAP.new(options)
end

def person(entry)
  { dn: entry.dn.downcase }.merge(ATTRIBUTES.transform_values { |names| names.filter_map { |one| entry[one].first }.first })
end

def disabled?(directory, server, entry)
  return false unless server['active_directory']

  found = directory.search(base: entry.dn, scope: Net::LDAP::SearchScope_BaseObject, filter: DISABLED)
  !(found || []).empty?
end

begin
  found = nil
  connection(server).open do |directory|
    entry = (directory.search(filter: filter(server, username), size: 1) || []).first
    accepted = entry && directory.bind(method: :simple, username: entry.dn, password: password)
    if accepted
      directory.bind(method: :simple, username: server['bind_dn'], password: server['password']) if server['bind_dn']
      found = person(entry).merge(disabled: disabled?(directory, server, entry))
    end
  end
  puts JSON.generate(found)
rescue StandardError => e
  warn e.message
  exit 1
end
