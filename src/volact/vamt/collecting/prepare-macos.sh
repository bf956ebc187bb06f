#!/bin/sh
# Lets VAMT ask this Mac for its licences over SSH. Run with sudo, as an administrator:
#
#     sudo sh prepare-macos.sh 'ssh-ed25519 AAAA... vamt' ACCOUNT
#
# The first argument is VAMT's public key; ACCOUNT is an account that exists, best one for this alone.
# The key can then run one command there, reading the licences, and nothing else. It may be run again.
# volact is untested on macOS, and so is this script.
set -eu

fail() {
    printf 'prepare-macos: %s\n' "$1" >&2
    exit 1
}

[ $# -eq 2 ] || fail "usage: sudo sh prepare-macos.sh 'PUBLIC KEY' ACCOUNT"
key=$1
account=$2
case $key in
    *'
'*) fail "the public key must be one line" ;;
    ssh-* | ecdsa-* | sk-*) ;;
    *) fail "the first argument is no public key, such as: ssh-ed25519 AAAA... vamt" ;;
esac
[ "$(id -u)" = 0 ] || fail "run it with sudo"
id "$account" >/dev/null 2>&1 || fail "there is no account $account"
home=$(dscl . -read "/Users/$account" NFSHomeDirectory | sed 's/^NFSHomeDirectory: //')
[ -d "$home" ] || fail "$account has no home folder"
volact=${VOLACT:-$(command -v volact || true)}
[ -n "$volact" ] || fail "volact is not installed here; install it, or set VOLACT to its path"
case $volact in
    /*) ;;
    *) fail "VOLACT must be a whole path" ;;
esac
case $volact in
    *[!A-Za-z0-9/._-]*) fail "the path of volact may hold letters, digits and / . _ - only" ;;
esac

file=$home/.ssh/authorized_keys
line="restrict,command=\"$volact client status --json\" $key"
mkdir -p "$home/.ssh"
touch "$file"
grep -qxF "$line" "$file" || printf '%s\n' "$line" >>"$file"
chmod 0700 "$home/.ssh"
chmod 0600 "$file"
chown -R "$account" "$home/.ssh"
systemsetup -setremotelogin on
dseditgroup -o edit -a "$account" -t user com.apple.access_ssh 2>/dev/null || true

cat <<END
Account:  $account, for the given key
May run:  volact client status --json
Service:  Remote Login is on
Firewall: allow TCP port 22 from VAMT's machine
END
