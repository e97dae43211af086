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

# What must be clean before a commit.
lint:
    cargo fmt --all --check
    typos
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Everything that the gate runs.
ci:
    .ci/run
