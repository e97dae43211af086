# Recipes for those who work on the project; `just` lists them.

default:
    @just --list

# What the README calls the tests.
test:
    cargo test --release --workspace

# Parity with the goldens alone; a folder with checkpoint/, images/ and goldens/ may be named.
parity folder="tests/data/parity":
    DEEPSEEK_OCR_GOLDENS={{ absolute_path(folder) }} cargo test --release --test integration parity -- --nocapture

# Parity and benches on a GPU, beside PyTorch on the same one if it is installed; `just gpu wgpu --tiny` rehearses both on software Vulkan.
gpu device="cuda" *options="":
    DEEPSEEK_OCR_DEVICE={{ device }} cargo test --release --features {{ device }} --test integration -- parity
    python benches/compare.py --against --rounds 1 --only gpu --feature {{ device }} --device {{ if device == "wgpu" { "cpu" } else { "cuda" } }} {{ options }}

# Every property on so many cases of its own. The seed that is printed, set as PROPTEST_RNG_SEED, gives the same ones again.
properties cases="10000":
    #!/usr/bin/env bash
    set -euo pipefail
    export PROPTEST_CASES={{ cases }} PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}"
    echo "PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"
    # The functions between `proptest! {` and the brace that ends it.
    properties=$(git ls-files '*.rs' | xargs awk '
        $1 == "proptest!" { end = $0; sub(/proptest!.*/, "}", end); inside = 1 }
        $0 == end { inside = 0 }
        inside && $1 == "fn" { sub(/\(.*/, "", $2); print $2 }')
    cargo test --release --workspace --lib --test integration -- $properties

# Hunts with a target of tests/fuzz for so many seconds, or runs it on the inputs that are named; needs `cargo install cargo-fuzz`.
fuzz target seconds="60" *inputs="":
    #!/usr/bin/env bash
    set -euo pipefail
    cd tests/fuzz
    # The versions that the workspace has.
    [ -f Cargo.lock ] || cp ../../Cargo.lock .
    # Files that a target writes are in memory where that is possible.
    export TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
    trap 'rm -r "$TMPDIR"' EXIT
    # New inputs go to the first folder.
    mkdir -p found/{{ target }}
    # The sanitizer and the coverage are options of the nightly compiler.
    RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . --features {{ target }} {{ target }} \
        {{ if inputs == "" { "found/" + target + " corpus/" + target } else { inputs } }} -- \
        -dict=dictionaries/{{ target }}.dict -max_total_time={{ seconds }} -timeout=10 -rss_limit_mb=1024 -print_final_stats=1

# The kernels' unit tests under AddressSanitizer, on every instruction set that the CPU has; Burn is not built again.
asan:
    RUSTC_WORKSPACE_WRAPPER="$PWD/.ci/asan" cargo test --release --workspace --lib -- ops::

# The same under valgrind, which sees memory that was never written, too. It knows AVX2, but not AVX-512.
memcheck:
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=1" \
        cargo test --release --workspace --lib -- ops:: --test-threads=1

# What must be clean before a commit.
lint:
    cargo fmt --all --check
    rustfmt --edition 2024 --check tests/fuzz/src/*.rs tests/fuzz/targets/*.rs
    typos
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Everything that the gate runs.
ci:
    .ci/run
