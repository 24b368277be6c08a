#!/bin/bash
# Runs the example on a real Ray cluster on the loopback of this machine: with one node, with two, and with two
# of which one is killed while it works. The file must be that of a single machine each time.
#   test.sh PYTHON [FOLDER OF TOOLS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
python=$1
tools=$(cd "${2:-$root/.build/release}" && pwd)
model=$root/fixtures/models/ppocr_cls
head=127.0.0.2 second=127.0.0.3 port=6399
work=$(mktemp -d)
export RAY_ADDRESS=$head:$port RAY_DEDUP_LOGS=0 RAY_USAGE_STATS_ENABLED=0 RAY_health_check_period_ms=1000

# start IP OPTIONS …: starts a node of one processor in a process group of its own, and waits for it
start() {
  local log=$work/$1.log
  setsid "$(dirname "$python")/ray" start --block --node-ip-address="$1" --num-cpus=1 \
    --object-store-memory=80000000 "${@:2}" > "$log" 2>&1 &
  echo $! > "$work/$1.group"
  disown
  for _ in $(seq 120); do
    grep -qs "Ray runtime started" "$log" && return
    sleep 1
  done
  cat "$log" >&2
  return 1
}
# fell IP: ends all processes of a node at once
fell() {
  kill -KILL -- "-$(cat "$work/$1.group")"
  rm "$work/$1.group"
}
finish() {
  for group in "$work"/*.group; do [ -e "$group" ] && fell "$(basename "$group" .group)"; done
  sleep 1
  rm -rf "$work"
}
trap finish EXIT

# convert NAME: the example, whose lines go to NAME.log
convert() {
  "$python" "$here/cluster.py" "$model/model.onnx" "$work/$1.qm" --samples "$work/samples" --parts 6 \
    --work "$work" --verify "$model/eval" --tools "$tools" -- --bits 4 --effort fast > "$work/$1.log" 2>&1 || {
    cat "$work/$1.log" >&2
    return 1
  }
}
# show NAME: what was measured, and the file
show() { echo "$1: $(grep observed "$work/$1.log"), $(sha256sum < "$work/$1.qm" | cut -c 1-16)"; }
# same NAME: whether the file is that of one machine, and all samples were verified
same() {
  cmp "$work/alone.qm" "$work/$1.qm"
  grep -q '"samples": 24' "$work/$1.log"
  show "$1"
}

mkdir "$work/samples"
for copy in {1..16}; do
  for file in "$model"/calib/*.npy "$model"/eval/*.npy; do
    ln -s "$file" "$work/samples/$copy$(basename "$(dirname "$file")")$(basename "$file")"
  done
done
"$tools/qconvert" "$model/model.onnx" "$work/alone.qm" --samples "$work/samples" --bits 4 --effort fast --quiet > /dev/null
echo "single machine: $(sha256sum < "$work/alone.qm" | cut -c 1-16)"

start $head --head --port=$port --include-dashboard=false --temp-dir="$work/ray"
convert one-node
same one-node

# Both nodes write into one folder of logs, which the first one reads.
start $second --address=$head:$port --include-log-monitor=false
convert two-nodes
grep -q "begins on $second" "$work/two-nodes.log"
same two-nodes

convert killed &
converting=$!
until grep -qs "begins on $second" "$work/killed.log"; do
  kill -0 $converting
  sleep 0.05
done
fell $second
wait $converting
lost=$(grep -o "observing part. begins on $second" "$work/killed.log" | tail -n 1 | cut -d " " -f 2)
grep -q "observing $lost begins on $head" "$work/killed.log"
echo "killed: $lost was lost with $second, and observed again on $head"
same killed

# A damaged sample is refused once, by the line of the tool.
echo damaged > "$work/samples/damaged.npy"
rm "$work/one-node.qm"
if convert one-node 2> /dev/null; then exit 1; fi
test ! -e "$work/one-node.qm"
test "$(grep -c "begins on" "$work/one-node.log")" -le 6
grep "^cluster.py: qconvert: .*damaged" "$work/one-node.log" || { cat "$work/one-node.log"; exit 1; }
