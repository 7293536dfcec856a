#!/bin/bash
# api.sh PROGRAM SCHEMATHESIS: the page's interface for programs against others' tools: schemathesis (no 5xx, answers as
# described) and promtool (/metrics).
set -euo pipefail
program=$1 schemathesis=$2
folder=$(mktemp -d)
port=$((20000 + RANDOM % 20000))
"$program" run --board sim --source pattern --rate 10 --frames 1000000 --quiet --web "127.0.0.1:$port" \
  --out "$folder/out" --state "$folder/state" > /dev/null 2> "$folder/log" &
station=$!
trap 'kill $station; wait $station || true; rm -rf "$folder"' EXIT
url=http://127.0.0.1:$port
for _ in $(seq 100); do
  if curl -sf "$url/api/state" > /dev/null; then break; fi
  sleep 0.2
done
# Events do not end. What a schema cannot say (no password is set yet, a rectangle whose left side is right of its right one) is
# answered with 422, which the check for the acceptance of valid data does not foresee.
"$schemathesis" --config-file "$(dirname "$0")/schemathesis.toml" run "$url/api/openapi.json" --exclude-path /api/events --checks all --exclude-checks unsupported_method,positive_data_acceptance \
  --max-examples "${EXAMPLES:-50}" --seed 1 --request-timeout 70
curl -sf "$url/metrics" | promtool check metrics
echo "promtool: nothing to say about $(curl -sf "$url/metrics" | grep -c '^faprompt') samples"
kill -0 $station
