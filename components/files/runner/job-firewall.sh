#!/bin/bash
# Keeps containers of jobs away from the machine that they run on. Rules that are there stay: it can run again.
set -eu

put() { "$1" --wait --check "${@:2}" 2>/dev/null || "$1" --wait --insert "${@:2}"; }

# Packets of containers to elsewhere pass this chain of Docker's first. The metadata service is at a link-local address.
put iptables DOCKER-USER --destination 169.254.0.0/16 --jump REJECT
# Packets to the machine itself, by whichever of its addresses, come in over a bridge; answers are let through.
for program in iptables ip6tables; do
  [ "$program" = iptables ] || [ -e /proc/net/if_inet6 ] || continue
  for bridge in docker0 br-+; do
    put "$program" INPUT --in-interface "$bridge" --match conntrack --ctstate NEW --jump REJECT
  done
done
