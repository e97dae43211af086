# Recipes for those who work on the project; `just` lists them.

default:
    @just --list

# What the README calls the tests.
test:
    cargo test --release --workspace

# Parity with the goldens alone; a folder with checkpoint/, images/ and goldens/ may be named.
parity folder="tests/data/parity":
    DEEPSEEK_OCR_GOLDENS={{ absolute_path(folder) }} cargo test --release --test integration parity -- --nocapture

# What must be clean before a commit.
lint:
    cargo fmt --all --check
    typos
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Everything that the gate runs.
ci:
    .ci/run
