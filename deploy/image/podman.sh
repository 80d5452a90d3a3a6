# shellcheck shell=bash
# To be sourced: podman with a storage of its own, which is gone in the end, and checks. Begins the script again in namespaces of
# its own, and sets `work`, a directory that goes as well, and `run_podman`. Ends the script, and names its checks, where podman,
# buildah, runc or what `also_wants` names is missing: a failure if BULKHEAD_TESTS_REQUIRE has `image`.
# shellcheck source=deploy/skip.sh
. "$(dirname "${BASH_SOURCE[0]}")/../skip.sh"
for tool in podman buildah runc ip ${also_wants:-}; do
    command -v "$tool" >/dev/null || skip image "$tool is not installed"
done
[ "$(id -u)" = 0 ] || skip image "not root"

# In namespaces: what podman makes of mounts and for networks (rules, bridges, files) goes with them.
[ -n "${BULKHEAD_APART:-}" ] || BULKHEAD_APART=1 exec unshare --net --mount "$0" "$@"
ip link set lo up
mkdir -p /run/containers
mount -t tmpfs tmpfs /run/containers

work=$(mktemp -d)
export work
export IMAGE_STORAGE="$work/images" CONTAINERS_CONF="$work/containers.conf"
# Limits of open files are not everybody's to set.
printf '[containers]\ndefault_ulimits = []\n' >"$CONTAINERS_CONF"
# An overlay has no other one below it.
IMAGE_STORAGE_DRIVER=overlay
[ "$(stat --file-system --format %T "$work")" != overlayfs ] || IMAGE_STORAGE_DRIVER=vfs
export IMAGE_STORAGE_DRIVER
# conmon writes a file `oom` into the directory that it was started in.
run_podman() (
    cd "$work"
    podman --root "$IMAGE_STORAGE/storage" --runroot "$IMAGE_STORAGE/run" --storage-driver $IMAGE_STORAGE_DRIVER \
        --cgroup-manager cgroupfs --runtime runc --log-level error "$@"
)
podman_groups() { find /sys/fs/cgroup -path '*/libpod_parent*' -type d 2>/dev/null; }
groups_before=$(podman_groups)
[ -n "$groups_before" ] || groups_before=none
clean_up() {
    run_podman pod rm --force --all >/dev/null 2>&1 || true
    run_podman rm --force --all --time 0 >/dev/null 2>&1 || true
    run_podman volume prune --force >/dev/null 2>&1 || true
    run_podman rmi --all --force >/dev/null 2>&1 || true
    # podman leaves those of its containers in hierarchies that it does not use. One with a process in it stays.
    podman_groups | grep --line-regexp --invert-match --fixed-strings "$groups_before" | tac | xargs --no-run-if-empty rmdir 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT

# The container whose log follows a check that failed.
town=town
passed=0 failed=0
# check WHAT COMMAND...
check() {
    if "${@:2}" >/dev/null; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        run_podman logs --tail 8 "$town" 2>&1 | cut -c1-400 | sed 's/^/        /' || true
    fi
}
