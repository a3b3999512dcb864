#!/bin/bash
# Report, in place of the metrics agent, that the root disk is full. It is the host's, which tests do not fill.
report='{"load_1": 0, "load_5": 0, "load_15": 0, "memory_utilization_percent": 1, "disk_utilization_percent": 100}'
while true; do
  curl -sS --max-time 5 --data "$report" http://169.254.169.254/v1/metrics
  sleep 0.5
done
