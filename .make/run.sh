#!/usr/bin/env bash
# run.sh: Envoy with the sample configuration in the foreground, and commands to try once it listens.
set -euo pipefail
cd "$(dirname "$0")/.."
port=10000
llm=10001
upstream=18080
admin=9901

accepts() {
	(: </dev/tcp/127.0.0.1/"$1") 2>/dev/null
}

announce() { # PID
	until accepts "$port"; do
		kill -0 "$1" 2>/dev/null || return
		sleep 0.1
	done
	printf '\nAllowance is running on http://127.0.0.1:%s (Ctrl-C stops it). Try:\n\n' "$port"
	printf '  %-74s # %s\n' \
		"curl -i http://127.0.0.1:$port/ -H 'x-api-key: demo'" "200: one request an hour," \
		"curl -i http://127.0.0.1:$port/ -H 'x-api-key: demo'" "429: and that was it" \
		"curl -i http://127.0.0.1:$port/" "401: no key" \
		"curl -i http://127.0.0.1:$port/ -H 'authorization: Bearer acme-demo-key'" "200: a consumer with a plan" \
		"curl -i http://127.0.0.1:$llm/v1/chat/completions -H 'x-api-key: demo' -d '{\"model\": \"gpt-5\", \"messages\": []}'" "429: its answer may take more tokens than there are" \
		"curl -i http://127.0.0.1:$llm/v1/chat/completions -H 'x-api-key: demo' -d '{\"model\": \"gpt-5\", \"max_tokens\": 50, \"messages\": []}'" "200: and it is charged what it took" \
		"curl -s http://127.0.0.1:$admin/stats/prometheus | grep ^allowance" "what was decided so far"
	echo
}

envoy=$(.make/envoy.sh)
# Envoy shares a port with whoever else allows that, so it would not notice.
for taken in $port $llm $upstream $admin; do
	! accepts "$taken" || {
		echo "error: port $taken on 127.0.0.1 is taken: stop the program that listens there ('ss -ltnp' shows it), then make run again" >&2
		exit 1
	}
done

# Envoy takes this process's place: signals reach it and its exit status is the recipe's.
(announce $$ &)
# What speaks like an LLM provider, for as long as Envoy runs.
(
	"${PYTHON:-python3}" -B envoy/upstream.py --port "$upstream" >/dev/null 2>&1 &
	while kill -0 $$ 2>/dev/null; do
		sleep 0.5
	done
	kill $!
) &
exec "$envoy" -c envoy/envoy.yaml --disable-hot-restart --log-level warning --component-log-level wasm:info \
	--file-flush-interval-msec 100
