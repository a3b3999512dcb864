# Install the machine's permanent SSH host key. Input: HOST_PRIVATE_KEY, HOST_PUBLIC_KEY.
main() {
  say "first contact: waiting for cloud-init"
  local state=0 key=/etc/ssh/ssh_host_ed25519_key
  cloud-init status --wait >/dev/null || state=$?
  # 2 means that it completed with warnings.
  [ "$state" = 0 ] || [ "$state" = 2 ] || die "cloud-init failed; see /var/log/cloud-init.log on the machine"
  write_file "$key" 600 <<<"$HOST_PRIVATE_KEY"
  write_file "$key.pub" 644 <<<"$HOST_PUBLIC_KEY"
  # Even if the files were already there: an interrupted run may have written them without reloading sshd.
  systemctl reload-or-restart ssh
  say "first contact: the permanent host key is installed"
}
