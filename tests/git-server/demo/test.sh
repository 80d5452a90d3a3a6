# Tests price.sh. Ends with 0 if all of it is right.

. ./price.sh

failed=0

check() {
    actual=$(price "$1")
    if [ "$actual" = "$2" ]; then
        echo "ok: $1 costs $2"
    else
        echo "failed: $1 costs $actual, and should cost $2"
        failed=1
    fi
}

check 500 500
check 9999 9999
check 10000 9000
check 20000 18000

[ $failed = 0 ] && echo "all passed"
exit $failed
