#!/bin/bash
# Converts the networks of fixtures/models at 8 and at 4 bits, runs them over samples that the
# conversion has not seen, and prints what was lost and what was won.
#   demo.sh [FOLDER OF TOOLS [FOLDER OF MODELS]]
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
tools=${1:-$(cd "$root" && swift build -c release --show-bin-path)}
models=${2:-$root/fixtures/models}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$tools:$PATH
export LC_ALL=C.UTF-8

# number KEY: the number under KEY in the JSON object on standard input
number() { sed -n "s/^ *\"$1\" : \"\{0,1\}\([-0-9.eInfity]*\)\"\{0,1\},\{0,1\}\$/\1/p" | head -n1; }
percent() { awk "BEGIN { printf \"%.2f %%\", 100 * $1 }"; }
kibibytes() { awk "BEGIN { printf \"%.1f KiB\", $1 / 1024 }"; }
accuracy() { qrun "$1" "$2/eval" --labels "$2/labels.json" --json --quiet | number accuracy; }

row="%-14s %10s %10s %10s %10s %9s %9s %9s %8s %8s\n"
# shellcheck disable=SC2059
printf "$row" network .onnx gzip "8 bits" "4 bits" "float" "8 bits" "4 bits" "8 bits" "4 bits" \
  > "$work/table"
for model in "$models"/*/; do
  model=${model%/}
  name=$(basename "$model")
  [ -e "$model/model.onnx" ] || continue
  echo "== $name"
  for bits in 8 4; do
    file=$work/$name.$bits.qm
    echo "\$ qconvert $name/model.onnx $name.$bits.qm --bits $bits --samples $name/calib"
    # The table shows what plain rounding to 4 bits costs, also where it is much.
    qconvert "$model/model.onnx" "$file" --bits $bits --samples "$model/calib" --min-sqnr 0 \
      --quiet | sed 's/^/  /'
    echo "\$ qverify $name.$bits.qm $name/eval --reference $name/model.onnx --per-value"
    status=0
    qverify "$file" "$model/eval" --reference "$model/model.onnx" --per-value --tolerance 0 \
      --quiet > "$work/verified" || status=$?
    grep -E '^worst|^  output|^structure' -A1 "$work/verified" | grep -v '^--' | sed 's/^/  /'
    [ $status = 0 ] || exit $status
    qverify "$file" "$model/eval" --reference "$model/model.onnx" --tolerance 0 --json --quiet \
      | number sqnr_db > "$work/$name.$bits.sqnr"
  done
  if [ -e "$model/labels.json" ]; then
    float=$(percent "$(accuracy "$model/model.onnx" "$model")")
    eight=$(percent "$(accuracy "$work/$name.8.qm" "$model")")
    four=$(percent "$(accuracy "$work/$name.4.qm" "$model")")
  else
    float=– eight=– four=–
  fi
  # shellcheck disable=SC2059
  printf "$row" "$name" "$(kibibytes "$(stat -c %s "$model/model.onnx")")" \
    "$(kibibytes "$(gzip -9 < "$model/model.onnx" | wc -c)")" \
    "$(kibibytes "$(stat -c %s "$work/$name.8.qm")")" \
    "$(kibibytes "$(stat -c %s "$work/$name.4.qm")")" "$float" "$eight" "$four" \
    "$(awk '{ printf "%.1f dB", $1 }' "$work/$name.8.sqnr")" \
    "$(awk '{ printf "%.1f dB", $1 }' "$work/$name.4.sqnr")" >> "$work/table"
done
echo
echo "               ------------------ size ------------------  --------- accuracy --------  ----- SQNR -----"
cat "$work/table"
