# Prices in cents.

# Ten percent off from 100.00 on.
price() {
    if [ "$1" -gt 10000 ]; then
        echo $(($1 * 90 / 100))
    else
        echo "$1"
    fi
}
