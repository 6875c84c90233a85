# root.sh - roots with a fresh Debian 12 and nothing else; for `.`, from the top of the tree, as root.

base=$PWD/build/debian-root

# Where this machine gets its packages from, so will they.
make_base() {
    mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { print $2; exit }' /etc/apt/sources.list.d/debian.sources \
        /etc/apt/sources.list 2>/dev/null | head -n 1)
    rm -rf --one-file-system "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase bookworm "$base" "$mirror" >"$base.log" 2>&1 || {
        tail -n 5 "$base.log" >&2
        exit 69
    }
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        rm -f "$base/etc/apt/sources.list"
        cp /etc/apt/sources.list.d/debian.sources "$base/etc/apt/sources.list.d/"
    fi
    for file in /etc/apt/apt.conf.d/*proxy*; do
        [ ! -e "$file" ] || cp "$file" "$base/etc/apt/apt.conf.d/"
    done
    # Proxies that this machine trusts.
    mkdir -p "$base/etc/ssl"
    [ ! -d /etc/ssl/certs ] || cp -aL /etc/ssl/certs "$base/etc/ssl/" 2>/dev/null || :
    touch "$base/.made"
}

new_root() { # folder
    [ -e "$base/.made" ] || make_base
    rm -rf --one-file-system "$1"
    mkdir -p "$1"
    cp -a "$base/." "$1/"
    cp /etc/resolv.conf /etc/hosts "$1/etc/"
}

# With processes and mounts of its own, which end with the command; with --net also without a network but loopback.
# Where the network is this machine's, packages start no servers.
in_root() { # folder, "" or --net, command
    policy=$1/usr/sbin/policy-rc.d
    rm -f "$policy"
    [ -n "$2" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"; }
    # shellcheck disable=SC2016,SC2086 # for the inner shell; an option or none
    root=$1 command=$3 unshare --mount --pid --fork --kill-child $2 -- sh -c '
        ! [ "$1" ] || ip link set lo up
        mount --bind "$root" "$root" && cd "$root" && mount -t proc proc proc && mount --rbind /dev dev || exit 69
        exec chroot . /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
            ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} sh -c "$command"' sh "$2" || {
        in_root_status=$?
        rm -f "$policy"
        return "$in_root_status"
    }
    rm -f "$policy"
}

# Into folder/build, where the README says that it is; and in newer/ the same with a higher version.
put_packages() { # package, folder
    newer=$2/build/newer
    mkdir -p "$newer"
    cp "$1" "$2/build/"
    dpkg-deb -R "$1" "$newer/unpacked"
    version=$(sed -n 's/^Version: //p' "$newer/unpacked/DEBIAN/control")+newer
    echo "$version" >"$newer/version"
    sed -i "s/^Version: .*/Version: $version/" "$newer/unpacked/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$newer/unpacked" "$newer" >/dev/null
    rm -rf "$newer/unpacked"
}

# The lines of a part, counted on from what was before.
renumber() { # file, number
    awk -v n="$2" '/^(not )?ok / { n++; sub(/ok [0-9]+/, "ok " n) } !/^1\.\./' "$1"
}
