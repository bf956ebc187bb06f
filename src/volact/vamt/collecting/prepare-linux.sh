#!/bin/sh
# Lets VAMT ask this Linux machine for its licences over SSH. Run as root:
#
#     sh prepare-linux.sh 'ssh-ed25519 AAAA... vamt' [FROM]
#
# The first argument is VAMT's public key, FROM the address or network it asks from (192.0.2.7, 192.0.2.0/24).
# It makes an account without a password whose key can run one command, reading the licences, and nothing else.
# It may be run again. What it does not do: open a firewall; see what it prints at the end.
# With DESTDIR set it writes the files below that folder and touches neither accounts nor services.
set -eu

account=volact-vamt
root=${DESTDIR:-}
home=/var/lib/$account
gate=/usr/local/libexec/$account
rule=/etc/sudoers.d/$account

fail() {
    printf 'prepare-linux: %s\n' "$1" >&2
    exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: sh prepare-linux.sh 'PUBLIC KEY' [FROM]"
key=$1
from=${2:-}
case $key in
    *'
'*) fail "the public key must be one line" ;;
    ssh-* | ecdsa-* | sk-*) ;;
    *) fail "the first argument is no public key, such as: ssh-ed25519 AAAA... vamt" ;;
esac
case $from in
    *[!0-9a-fA-F.:/,*]*) fail "FROM is no address or network" ;;
esac
volact=${VOLACT:-$(command -v volact || true)}
[ -n "$volact" ] || fail "volact is not installed here; install it, or set VOLACT to its path"
case $volact in
    /*) ;;
    *) fail "VOLACT must be a whole path" ;;
esac
case $volact in
    *[!A-Za-z0-9/._-]*) fail "the path of volact may hold letters, digits and / . _ - only" ;;
esac
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "run it as root"

# write FILE MODE: standard input becomes the file, whole or not at all
write() {
    mkdir -p "$root$(dirname "$1")"
    cat >"$root$1.new"
    chmod "$2" "$root$1.new"
    mv -f "$root$1.new" "$root$1"
}

if [ -z "$root" ] && ! id "$account" >/dev/null 2>&1; then
    useradd --system --home-dir "$home" --shell /bin/sh "$account"
    usermod --password '*' "$account" # no password at all, which is not a locked account
fi

# Root sees the firmware's identity, by which a machine is known again; without sudo the system's own id serves.
run="exec $volact client status --json"
if command -v sudo >/dev/null 2>&1; then
    printf '%s ALL=(root) NOPASSWD: %s client status --json\n' "$account" "$volact" | write "$rule" 0440
    if [ -z "$root" ]; then
        visudo -cqf "$rule" || { rm -f "$rule"; fail "sudo does not take the rule"; }
    fi
    run="exec sudo -n $volact client status --json"
fi
write "$gate" 0755 <<END
#!/bin/sh
# What VAMT may run here, and nothing else (prepare-linux.sh).
case \${SSH_ORIGINAL_COMMAND:-} in
    'volact client status --json') $run ;;
esac
echo 'This account may read the licences and nothing else.' >&2
exit 1
END

options="restrict,command=\"$gate\""
[ -z "$from" ] || options="$options,from=\"$from\""
mkdir -p "$root$home/.ssh"
printf '%s %s\n' "$options" "$key" | write "$home/.ssh/authorized_keys" 0600
chmod 0700 "$root$home/.ssh"
[ -n "$root" ] || chown -R "$account:" "$home"

cat <<END
Account:  $account, for the given key${from:+ from $from}
May run:  volact client status --json
Service:  sshd must run and start with the machine: systemctl enable --now ssh (or sshd)
Firewall: allow TCP port 22 from VAMT's machine, for instance one of
          ufw allow from ${from:-ADDRESS} to any port 22 proto tcp
          firewall-cmd --permanent --add-rich-rule='rule family=ipv4 source address=${from:-ADDRESS} service name=ssh accept'
Host key: compare it with what VAMT shows before it is pinned
END
for public in "$root"/etc/ssh/ssh_host_*_key.pub; do
    if [ -r "$public" ] && command -v ssh-keygen >/dev/null 2>&1; then
        printf '          %s\n' "$(ssh-keygen -lf "$public")"
    fi
done
