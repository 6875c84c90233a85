# tap.sh - checks of shell scripts, in TAP; for `.`.
number=0
TAP_LOG=${TAP_LOG:-/tmp/tap.log} # what the last condition said
README=${README:-README.md}

# Waits up to thirty seconds for the condition, a shell command.
check() { # name, condition
    tries=150
    until (eval "$2") >"$TAP_LOG" 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" -eq 0 ]; then
            not_ok "$1"
            return 1
        fi
        sleep 0.2
    done
    ok "$1"
}

# The same once, for what cannot become true later, and for what is to be done.
check_now() { # name, condition
    if (eval "$2") >"$TAP_LOG" 2>&1; then
        ok "$1"
    else
        not_ok "$1"
        return 1
    fi
}

ok() { # name
    number=$((number + 1))
    echo "ok $number - $1"
}
# With what the condition said, and what more_of_failure does, if the script has such a function.
not_ok() { # name
    number=$((number + 1))
    echo "not ok $number - $1"
    {
        cat "$TAP_LOG"
        ! command -v more_of_failure >/dev/null || more_of_failure
    } | sed 's/^/# /'
}

# The README has this line, as it stands there, but for what a # says.
in_readme() { # line
    line=$1
    # shellcheck disable=SC2016 # for eval
    check_now "the README says: $line" \
        'sed -e ":a" -e "/\\\\$/N" -e "s/ *\\\\\n */ /" -e "ta" "$README" | sed "s/^ *//; s/  *#.*//" | grep -qxF -- "$line"'
}
# Runs a line that the README has.  There is no sudo, and everybody here is root.
readme() { # line
    in_readme "$1" && check_now "$1" "$1"
}
sudo() {
    if [ "$1" = -u ]; then
        user=$2
        shift 2
        runuser -u "$user" -- "$@"
    else
        "$@"
    fi
}
