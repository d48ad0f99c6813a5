#!/usr/bin/env bash
# Builds the fuzz targets with the stable compiler and runs them, one after the other.
#
#   fuzz/run.sh                  every target, 60 s each
#   fuzz/run.sh block            one target
#   fuzz/run.sh block 600        one target for so many seconds
#   fuzz/run.sh all 600
#   fuzz/run.sh block FILE       one input again, for example one that crashed
#
# What a target learnt stays in fuzz/corpus/TARGET, an input that crashed it in fuzz/artifacts/TARGET. Ends with 1 when
# a target crashed, hung or took too much memory. Needs a C++ compiler, which builds libFuzzer itself.
set -euo pipefail
how=${2:-60}
if [ -f "$how" ]; then how=$(realpath "$how"); fi
cd "$(dirname "$0")"

# What cargo-fuzz passes to rustc, without the address sanitizer, which only a nightly compiler has: the program is
# safe Rust, and overflows and failed assertions are panics here.
flags=(
  -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares
  -Cllvm-args=-simplifycfg-branch-fold-threshold=0
  -Ccodegen-units=1
  --cfg=fuzzing
)
host=$(rustc -vV | sed -n 's/^host: //p')

wanted=${1:-all}
if [ "$wanted" = all ]; then
  mapfile -t targets < <(basename -s .rs -a fuzz_targets/*.rs)
else
  if [ ! -f "fuzz_targets/$wanted.rs" ]; then
    echo "fuzz/run.sh: no target $wanted; there are:" $(basename -s .rs -a fuzz_targets/*.rs) >&2
    exit 64
  fi
  targets=("$wanted")
fi

# With --target the flags do not reach build scripts and macros, which have no libFuzzer to link with.
# Not --locked: what the product depends on may have changed since somebody last fuzzed it.
RUSTFLAGS="${flags[*]}" cargo build --release --target "$host" \
  "${targets[@]/#/--bin=}"
binaries="${CARGO_TARGET_DIR:-target}/$host/release"

# Examples to start from: the samples of every release, the example configurations and what lies in seeds/.
seed() {
  local target=$1 samples=../proto/testdata
  case $target in
    block) cp -n "$samples"/*/block-*.bin "corpus/$target/" ;;
    ranges) cp -n "$samples"/*/ranges.bin "corpus/$target/" ;;
    agent_message)
      cp -n "$samples"/*/{assignment-status,batch,heartbeat,hello,measurement-answer,measurement-refusal}.bin \
        "corpus/$target/" ;;
    collector_message)
      cp -n "$samples"/*/{ack,assignment,measurement-request,wait,welcome}.bin "corpus/$target/" ;;
    config) cp -n ../deploy/examples/*.toml "corpus/$target/" ;;
  esac
  if [ -d "seeds/$target" ]; then cp -n "seeds/$target"/* "corpus/$target/"; fi
}

failed=()
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  seed "$target"
  if [ -f "$how" ]; then
    nice "$binaries/$target" "$how"
    continue
  fi
  printf '\n== %s, %s s\n' "$target" "$how"
  # One input may take 10 s and 1 GiB: both are far above what the limits of the parsers allow.
  nice "$binaries/$target" "corpus/$target" \
    -max_total_time="$how" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -use_value_profile=1 \
    -artifact_prefix="artifacts/$target/" || failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz/run.sh: findings in: ${failed[*]}; see fuzz/artifacts/" >&2
  exit 1
fi
