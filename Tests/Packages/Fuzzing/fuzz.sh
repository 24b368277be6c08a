#!/bin/bash
# Fuzzes every reader of foreign bytes under the address sanitizer: fuzz.sh SECONDS [TARGET…], so many for each target
# Seeds are the fixtures; what was found worth keeping stays in .build/corpus for the next time.
# A crash is kept in .build/crashes/TARGET. Exit status 1 if there is one. It becomes a file of
# fixtures/crashes/TARGET, which the test suite reads, once somebody has checked that other readers survive it.
set -u
cd "$(dirname "$0")/../../.." || exit 1
seconds=${1:-300}
shift
targets=${*:-onnx npy npz safetensors sounds tables container payload}
traits=
if pkg-config --exists libpng libjpeg 2>/dev/null; then
  traits="--traits default,Media"
  export QM_MEDIA=1
  [ $# -gt 0 ] || targets="$targets pictures"
fi
build=${FUZZ_BUILD:-Tests/Packages/Fuzzing/.build}
swift build --package-path Tests/Packages/Fuzzing --scratch-path "$build" -c release --sanitize address \
  -Xswiftc -sanitize=fuzzer -Xcc -fsanitize=fuzzer-no-link >&2 || exit 1
swift build -c release $traits --product reseal >&2 || exit 1
fuzz=$build/release/fuzz

seeds() { # TARGET FOLDER
  case $1 in
    onnx) find fixtures -name '*.onnx' -size -64k -exec cp --backup=numbered {} "$2" \; ;;
    npy) find fixtures/npy -name '*.npy' -size -16k -exec cp {} "$2" \; ;;
    npz) find fixtures/npz -name '*.npz' -size -64k -exec cp {} "$2" \; ;;
    safetensors) find fixtures/safetensors -name '*.safetensors' -exec cp {} "$2" \; ;;
    pictures) find fixtures/pictures -type f -not -name 'expected.*' -exec cp {} "$2" \; ;;
    sounds) find fixtures/sounds -name '*.wav' -exec cp {} "$2" \; ;;
    tables)
      printf 'a,b,y\n1,2,3\n' > "$2/named"
      printf '"1","-2e3", 4\r\n"5\n",6,7' > "$2/quoted" ;;
    container) find fixtures/qm "$work" -maxdepth 2 -name '*.qm' -not -path "$2/*" -size -64k -exec cp {} "$2" \; ;;
    payload)
      find fixtures/qm "$work" -maxdepth 2 -name '*.qm' -not -path "$2/*" -size -64k | while read -r file; do
        .build/release/reseal --split "$file" "$2/$(basename "$file" .qm)" >/dev/null
      done ;;
  esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Programs of every kind of node: the fixtures converted.
if [ -x .build/release/qconvert ]; then
  number=0
  find fixtures -name '*.onnx' -size -64k | while read -r model; do
    number=$((number + 1))
    for bits in 32 4; do
      .build/release/qconvert "$model" "$work/$number-$bits.qm" --bits $bits --quiet \
        >/dev/null 2>&1
    done
  done
fi

found=0
for target in $targets; do
  corpus=$build/corpus/$target
  mkdir -p "$corpus" "$work/$target" "$build/crashes/$target"
  seeds "$target" "$work/$target"
  echo "$target: $(ls "$work/$target" | wc -l) seeds, $seconds seconds" >&2
  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096 \
    "$fuzz" "$target" -max_total_time=$seconds -timeout=10 -rss_limit_mb=2048 \
    -malloc_limit_mb=4096 -max_len=65536 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/crashes/$target/" "$corpus" "$work/$target" \
    >"$build/$target.log" 2>&1
  status=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: //p' "$build/$target.log")
  edges=$(grep -a -o 'cov: [0-9]*' "$build/$target.log" | tail -1)
  echo "$target: ${executions:-0} executions, ${edges#cov: } edges, exit $status"
  if [ $status != 0 ]; then
    found=1
    grep -a -E 'ERROR|SUMMARY|Fatal error|Test unit written' "$build/$target.log" >&2
  fi
  rmdir "$build/crashes/$target" 2>/dev/null
done
rmdir "$build/crashes" 2>/dev/null
exit $found
