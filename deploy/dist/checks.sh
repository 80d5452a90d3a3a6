# shellcheck shell=bash
# shellcheck disable=SC2154
# To be sourced: checks, and their count. Wants `work`, a directory.
passed=0 failed=0
# check WHAT COMMAND...
check() {
    if "${@:2}" >"$work/output" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1"
        tail -n 20 "$work/output" | cut -c1-400 | sed 's/^/        /'
    fi
}
refuses() { ! "$@"; }
