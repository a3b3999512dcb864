# Give the machine its lasting host key. Input: HOST_PRIVATE_KEY, HOST_PUBLIC_KEY.
main() {
  say "first contact: waiting for cloud-init"
  local state=0 key=/etc/ssh/ssh_host_ed25519_key
  cloud-init status --wait >/dev/null || state=$?
  # 2 says that it finished with something to grumble about.
  [ "$state" = 0 ] || [ "$state" = 2 ] || die "cloud-init failed; see /var/log/cloud-init.log on the machine"
  write_file "$key" 600 <<<"$HOST_PRIVATE_KEY"
  write_file "$key.pub" 644 <<<"$HOST_PUBLIC_KEY"
  # Also where the files were there: a run that was killed in between has not shown them to anybody.
  systemctl reload-or-restart ssh
  say "first contact: the lasting host key is in place"
}
