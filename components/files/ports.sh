# Functions for the ports that the machine's own firewall opens to everybody. Input: PUBLIC_PORTS.
APPLIED_RULES=/etc/ufw/slipway.rules

rules_of_ports() {
  local port
  for port in 22 $PUBLIC_PORTS; do echo "allow $port/tcp"; done
}

# apply_rules VERB: pass each line of standard input to ufw, as a rule to be added, or deleted with the VERB `delete`.
apply_rules() {
  local rule
  while read -r rule; do
    # Word splitting is intended: each word of the rule is an argument.
    # shellcheck disable=SC2086
    ufw $1 $rule >/dev/null
  done
}

# close_other_ports: those that were open for former settings. What they served answers on other ports by now.
close_other_ports() {
  local closed
  closed=$(grep -vxF -f <(rules_of_ports) "$APPLIED_RULES") || return 0
  say "firewall: closing ${closed//$'\n'/, }"
  apply_rules delete <<<"$closed"
  rules_of_ports | write_file "$APPLIED_RULES" 600
}
