#!/bin/bash
# Runs a network from C and C++ through the library that `make library` has built, and compares the
# outputs with qrun's. Fails if the library exports anything but the functions of qm.h, which
# symbols.txt lists: a function that is gone, or one more, must be a decision.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
library=$root/.build/library
here=$root/Tests/Packages/C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check.sh: $1" >&2; exit 1; }

# Symbols with a small letter are local.
nm -D --defined-only "$library/libqm.so" | awk '$2 ~ /[A-Z]/ { print $3 }' | sort \
  | diff "$here/symbols.txt" - || fail "libqm.so and symbols.txt differ"
sed 's,//.*,,' "$library/qm.h" | tr '\n' ' ' | grep -oE 'QM_API [^;]*;' \
  | grep -oE 'qm_[a-z_]+\(' | grep -oE 'qm_[a-z_]+' | sort \
  | diff "$here/symbols.txt" - || fail "qm.h and symbols.txt differ"
foreign=$(ldd "$library/libqm.so" | awk '{ print $1 }' | sed 's,.*/,,' \
  | grep -vE '^(linux-vdso|ld-linux.*|lib(c|m|z|gcc_s|stdc\+\+))\.so' || true)
[ -z "$foreign" ] || fail "links $foreign"
nm --defined-only --extern-only "$library/libqm.a" | awk 'NF == 3 { print $3 }' | sort \
  | diff "$here/symbols.txt" - || fail "libqm.a and symbols.txt differ"

tools=$(cd "$root" && swift build -c release --show-bin-path)
fixture=$root/fixtures/models/digits_mlp
"$tools/qconvert" "$fixture/model.onnx" "$work/out.qm" --bits 8 --samples "$fixture/calib" --probes 4 --quiet \
  > /dev/null
sample=$(ls "$fixture"/eval/*.npy | head -1)
mkdir "$work/samples"
cp "$sample" "$work/samples/0.npy"
"$tools/qrun" "$work/out.qm" "$work/samples" --output "$work/results" --quiet > /dev/null
expected=$(ls "$work"/results/*.npy)

flags="-Wall -Wextra -Werror -I$library"
dynamic="-L$library -lqm -lpthread -Wl,-rpath,$library"
static="$library/libqm.a -lz -lm -lpthread -ldl"
for kind in dynamic static; do
  # The Swift runtime is written in C++.
  ${CC:-cc} -std=c11 $flags "$here/run.c" -o "$work/run-c" ${!kind} -lstdc++
  ${CXX:-c++} -std=c++17 $flags "$here/run.cpp" -o "$work/run-cpp" ${!kind}
  "$work/run-c" "$work/out.qm" "$sample" "$expected"
  "$work/run-cpp" "$work/out.qm" "$sample" "$expected"
done
echo "libqm.so, stripped, with the Swift runtime inside: $(($(stat -c %s "$library/libqm.so") / 1024)) KiB"
