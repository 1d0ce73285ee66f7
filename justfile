# Shortcuts; `just` alone lists them.

default:
    @just --list

# Everything that a change must pass.
ci:
    bash .ci/run

test *args:
    cargo test --release --workspace {{args}}

lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# The main job.
search question="怎样在没有网络的机器上使用？":
    cargo run --release -- search docs/guide "{{question}}"

# wenyi beside OpenVINO, ONNX Runtime and sentence-transformers on this machine.
bench *args:
    python3 bench/embed/run.py {{args}}

# Licences and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny check
