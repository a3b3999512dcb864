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
# Except to its cache of Docker Hub, if it has one. That rule has to be the first, wherever it was.
address=$(ip -4 -oneline address show dev docker0 scope global | awk '{ print $4; exit }')
for bridge in docker0 br-+; do
  rule=(INPUT --in-interface "$bridge" --destination "${address%/*}" --protocol tcp --dport 5000 --jump ACCEPT)
  while iptables --wait --delete "${rule[@]}" 2>/dev/null; do :; done
  [ ! -e /etc/slipway/docker-hub-cache ] || iptables --wait --insert "${rule[@]}"
done
