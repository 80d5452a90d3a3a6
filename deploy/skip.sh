# shellcheck shell=bash
# To be sourced: what this machine cannot check is named, and added to the file UNCHECKED, if that is set.

# requires NEED: whether a check that is not made is a failure.
requires() { case ",${BULKHEAD_TESTS_REQUIRE:-}," in *,"$1",*) ;; *) return 1 ;; esac }

# unchecked REASON CHECK...
unchecked() {
    local reason=$1 each
    for each in "${@:2}"; do
        echo "not checked: $each ($reason)"
        [ -z "${UNCHECKED:-}" ] || echo "$each ($reason)" >>"$UNCHECKED"
    done
}

# skip NEED REASON: ends a script of which no `check` is made. It fails if BULKHEAD_TESTS_REQUIRE has the need.
skip() {
    local checks=()
    mapfile -t checks < <(sed -n 's/^ *check "\([^"]*\)".*/\1/p' "$0" | sed "s#^#$(basename "$(dirname "$0")"): #")
    [ "${#checks[@]}" -gt 0 ] || checks=("$0")
    unchecked "$2" "${checks[@]}"
    ! requires "$1" || { echo "error: $2, and BULKHEAD_TESTS_REQUIRE has $1" >&2; exit 1; }
    exit 0
}
