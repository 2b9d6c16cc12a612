#!/bin/sh
# Asks the web service how it is, again and again, and says so.
set -u

trap 'exit 0' TERM INT
while :; do
  echo "worker: $(busybox wget -q -T 5 -O - "$TARGET/cgi-bin/status" || echo "$TARGET does not answer")"
  sleep "${INTERVAL:-10}" &
  wait $!
done
