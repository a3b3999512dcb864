#!/bin/bash
# Print how the cache of Docker Hub of this machine is: "serves" and the bytes that it has stored, or "down" and why; "none"
# if there is none. Reads only.
set -uo pipefail
settings=/etc/slipway/docker-hub-cache
[ -e "$settings/names" ] || { echo none; exit; }
read -r _ address <"$settings/names"
if said=$(curl --silent --show-error --fail --max-time 3 --output /dev/null --noproxy '*' --cacert "$settings/certificate.pem" "https://$address/v2/" 2>&1); then
  echo "serves $(du --summarize --bytes /var/cache/slipway/docker-hub | cut -f1)"
else
  echo "down $said"
fi
