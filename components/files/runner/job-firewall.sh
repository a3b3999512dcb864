#!/bin/bash
# Blocks job containers from reaching the machine that they run on and its metadata service. Idempotent: keeps rules
# that already exist.
set -eu

# ensure_rule PROGRAM CHAIN RULE…
ensure_rule() { "$1" --wait --check "${@:2}" 2>/dev/null || "$1" --wait --insert "${@:2}"; }

# Docker sends what containers send elsewhere through this chain first. The metadata service has a link-local address.
ensure_rule iptables DOCKER-USER --destination 169.254.0.0/16 --jump REJECT
# Packets to the machine itself, at any of its addresses, arrive on a bridge; replies are allowed.
for program in iptables ip6tables; do
  [ "$program" = iptables ] || [ -e /proc/net/if_inet6 ] || continue
  for bridge in docker0 br-+; do
    ensure_rule "$program" INPUT --in-interface "$bridge" --match conntrack --ctstate NEW --jump REJECT
  done
done
