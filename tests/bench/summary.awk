# summary.awk - the table and the JSON of tests/bench/run.
# Files: IDLE and LOADED ("NAME KIB"), RESULTS ("NAME requests/s p50_ms p99_ms", one line per round).

function sort(a, n,    i, j, t) {
    for (i = 2; i <= n; i++)
        for (j = i; j > 1 && a[j - 1] > a[j]; j--) {
            t = a[j]
            a[j] = a[j - 1]
            a[j - 1] = t
        }
}

# The median of column c of a competitor; sets low and high.
function median(name, c,    a, i, n) {
    n = rounds[name]
    for (i = 1; i <= n; i++)
        a[i] = value[name, i, c]
    sort(a, n)
    low = a[1]
    high = a[n]
    return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
}

function figure(name, number) {
    printf "%s{\"name\":\"%s\",\"value\":%.6g}", figures++ ? "," : "", name, number > json
}

FNR == 1 { file++ }
file == 1 { names[++count] = $1; idle[$1] = $2 }
file == 2 { loaded[$1] = $2 }
file == 3 {
    rounds[$1]++
    for (c = 2; c <= 4; c++)
        value[$1, rounds[$1], c] = $c + 0
}

END {
    printf "{\"figures\":[" > json
    printf "%-12s %9s %9s %9s %7s %8s %8s %10s %10s\n", "", "leads/s", "min", "max", "ratio", "p50 ms",
        "p99 ms", "idle KiB", "after KiB"
    for (i = 1; i <= count; i++) {
        name = names[i]
        rate = median(name, 2)
        rate_low = low
        rate_high = high
        if (i == 1)
            first = rate
        p50 = median(name, 3)
        p99 = median(name, 4)
        printf "%-12s %9.0f %9.0f %9.0f %7.3f %8.2f %8.2f %10d %10d\n", name, rate, rate_low, rate_high,
            rate / first, p50, p99, idle[name], loaded[name]
        figure(name ".leads_per_s", rate)
        figure(name ".leads_per_s_min", rate_low)
        figure(name ".leads_per_s_max", rate_high)
        figure(name ".ratio", rate / first)
        figure(name ".p50_ms", p50)
        figure(name ".p99_ms", p99)
        figure(name ".idle_kib", idle[name])
        figure(name ".loaded_kib", loaded[name])
    }
    printf "]}\n" > json
}
