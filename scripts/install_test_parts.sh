#!/bin/bash
# Installs what some tests need beside Python, and what a plain Debian machine may lack: one function per part.
#
#     scripts/install_test_parts.sh [PART ...]        (all parts if none is named; parts: apptainer, slurm,
#                                                     chromium)
#
# As root, or as a user who may use sudo. Running it again changes nothing and takes well under a second.
set -euo pipefail
umask 022 # dpkg refuses a package made under a stricter one

parts=(apptainer slurm chromium)

say() { echo "install_test_parts: $*"; }
die() { echo "install_test_parts: error: $*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo"
        sudo -- "$@"
    fi
}

# env: sudo drops the caller's variables.
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# The lists of a fresh machine are empty, those of an old one name packages that the mirror no longer has.
apt_update_once() {
    [ -z "${apt_updated:-}" ] || return 0
    as_root apt-get update -qq || die "apt-get update failed"
    apt_updated=1
}

# True if apt can install the package as it is and leaves the libc alone: a machine that lists a newer suite offers
# packages whose libc would come with them.
apt_offers() {
    local plan
    plan=$(apt-get install --simulate --no-install-recommends "$1" 2>/dev/null) || return 1
    ! grep -q '^Inst libc6[ :]' <<<"$plan"
}

# -- apptainer ---------------------------------------------------------------------------------------------------------

install_apptainer() {
    local wanted=() pair
    # Debian's own python3: scripts/build_local_image.py copies it.
    local pairs=(apptainer:apptainer mksquashfs:squashfs-tools newuidmap:uidmap /usr/bin/python3:python3)
    # Users other than root mount images with squashfuse if they may use /dev/fuse. Where they may not, having it makes
    # apptainer fail instead of unpacking the image at every start.
    if [ "$(stat -c %A /dev/fuse 2>/dev/null)" = crw-rw-rw- ]; then
        pairs+=(squashfuse:squashfuse)
    fi
    for pair in "${pairs[@]}"; do
        command -v "${pair%:*}" >/dev/null || wanted+=("${pair#*:}")
    done
    if [ "${#wanted[@]}" -gt 0 ]; then
        apt_update_once
        if [ "${wanted[0]}" = apptainer ] && ! apt_offers apptainer; then
            adapt_apptainer_of_sid
            wanted[0]=$scratch/adapted.deb
        fi
        apt_install "${wanted[@]}" || die "apt cannot install ${wanted[*]}"
        hash -r
    fi
    apptainer --version >/dev/null || die "the apptainer on PATH does not start: $(command -v apptainer)"
    configure_apptainer
    say "$(apptainer --version)"
}

# Debian 12 has no package of Apptainer. Sid's needs two symbols that are newer than Debian 12's libc, and otherwise
# runs on it. So: download it with an apt state of its own (the machine's sources stay as they are), point the symbols
# to their older names, and correct the version and the dependencies that the package states.
adapt_apptainer_of_sid() {
    say "no installable package of apptainer here: adapting that of Debian sid"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    mkdir -p "$scratch"/{lists/partial,cache/archives/partial}
    write_sid_source

    # Expired: mirrors that are snapshots keep an old Release file; its signature is still checked. Sandbox: apt's own
    # user cannot write into a private directory.
    local apt=(apt-get -qq
        -o "Dir::Etc::SourceList=$sid_list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache"
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o APT::Sandbox::User=root)
    "${apt[@]}" -o APT::Update::Error-Mode=any update || die "this machine's Debian mirror does not serve suite sid"
    (cd "$scratch" && "${apt[@]}" download apptainer) || die "sid has no package of apptainer for this architecture"

    dpkg-deb -R "$scratch"/apptainer_*.deb "$scratch/tree"
    use_older_symbols "$scratch/tree" || die "cannot adapt apptainer to this machine's libc"
    # containernetworking-plugins: 45 MB, and used by --net only. md5sums: those of the unadapted files.
    sed -i -E -e '/^Version:/s/$/+oldlibc/' \
        -e '/^Depends:/{s/ containernetworking-plugins,//; s/(libc6) \([^)]*\)/\1/}' "$scratch/tree/DEBIAN/control"
    rm -f "$scratch/tree/DEBIAN/md5sums"
    dpkg-deb --root-owner-group -Znone -b "$scratch/tree" "$scratch/adapted.deb" >/dev/null
    chmod a+rx "$scratch" # apt's own user reads the package
}

# Writes the machine's own source of Debian's main archive with the suite replaced, and names the file in sid_list: this
# keeps the mirror, the keyring and the options as they are set here.
write_sid_source() {
    local codename entry file number
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016
    entry=$(apt-get indextargets --format '$(SOURCESENTRY)' "Codename: $codename" 'Label: Debian' 'Component: main' \
        'Created-By: Packages' | head -n 1)
    [ -n "$entry" ] || die "no package of apptainer here, and no Debian archive among apt's sources to take sid's from"
    file=${entry%:*} number=${entry##*:}
    sid_list=$scratch/sid.${file##*.}
    case $file in
        *.list) # the entry's number is its line
            sed -n "${number}p" "$file" |
                sed -E 's/^(\s*deb\s+(\[[^]]*\]\s+)?\S+)\s.*/\1 sid main/' >"$sid_list"
            ;;
        *) # the entry's number is that of its stanza
            grep -v '^#' "$file" | awk -v RS= "NR == $number" |
                sed -E 's/^Suites:.*/Suites: sid/I; s/^Components:.*/Components: main/I' >"$sid_list"
            ;;
    esac
}

# Rewrites every ELF file below a directory that asks for a newer libc than this machine's, if C23's strtol and strtoul
# are all that it asks for: they differ from the old ones only in that they also read binary numbers (0b101).
use_older_symbols() {
    python3 - "$1" <<'PYTHON'
import os
import struct
import sys
from pathlib import Path

PREFIX = b"__isoc23_"  # of the new names: what follows it is the old name
DYNSYM, VERNEED, VERSYM = 11, 0x6FFFFFFE, 0x6FFFFFFF  # section types


def number(version: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix(b"GLIBC_").split(b"."))


def adapt(path: Path, newest: tuple[int, ...]) -> None:
    data = bytearray(path.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    # Of each section: name, type, flags, address, offset, size, linked section, info (their number, of VERNEED)
    sections = [struct.unpack_from("<IIQQQQII", data, table + i * size) for i in range(count)]
    by_type = {section[1]: section for section in sections}
    if VERNEED not in by_type:
        return
    strings = sections[by_type[DYNSYM][6]][4]

    def string(offset: int) -> bytes:
        return bytes(data[strings + offset : data.index(b"\0", strings + offset)])

    # The versions that are required of the libc: where each stands, and which symbols carry it
    versions = {}
    need = by_type[VERNEED][4]
    for _ in range(by_type[VERNEED][7]):
        _, entries, library, first, step = struct.unpack_from("<HHIII", data, need)
        at = need + first
        for _ in range(entries):
            name = string(struct.unpack_from("<I", data, at + 8)[0])
            if string(library).startswith(b"libc.so.") and name.startswith(b"GLIBC_2."):
                versions[name] = at
            at += struct.unpack_from("<I", data, at + 12)[0]
        need += step
    too_new = {name: at for name, at in versions.items() if number(name) > newest}
    if not too_new:
        return
    oldest = versions[min(versions, key=number)]  # the architecture's first, which has strtol and strtoul
    indices = {struct.unpack_from("<H", data, at + 6)[0] for at in too_new.values()}
    symbols, length = by_type[DYNSYM][4:6]
    for i in range(length // 24):
        (index,) = struct.unpack_from("<H", data, by_type[VERSYM][4] + 2 * i)
        if index & 0x7FFF not in indices:
            continue
        (offset,) = struct.unpack_from("<I", data, symbols + 24 * i)
        if string(offset) not in (PREFIX + b"strtol", PREFIX + b"strtoul"):
            sys.exit(f"{path.name} needs {string(offset).decode()} of a newer libc")
        struct.pack_into("<I", data, symbols + 24 * i, offset + len(PREFIX))
    for at in too_new.values():  # the symbols keep the number of their version, which now stands for the oldest
        data[at : at + 4] = data[oldest : oldest + 4]  # hash
        data[at + 8 : at + 12] = data[oldest + 8 : oldest + 12]  # name
    path.write_bytes(data)


libc = os.confstr("CS_GNU_LIBC_VERSION") or sys.exit("this machine's libc is not glibc")
for path in Path(sys.argv[1]).rglob("*"):
    if path.is_file() and not path.is_symlink():
        adapt(path, number(libc.split()[1].encode()))
PYTHON
}

configure_apptainer() {
    # "build --fakeroot" needs a range of user ids.
    local user bounding
    user=$(id -un)
    if ! grep -Eq "^($user|$(id -u)):" /etc/subuid || ! grep -Eq "^($user|$(id -u)):" /etc/subgid; then
        as_root apptainer config fakeroot --add "$user" || die "cannot give $user a range of user ids"
    fi
    # Root's containers ask for all capabilities, and do not start where the machine itself holds one back. Some virtual
    # machines hold CAP_SYS_RESOURCE back (bit 24 of the bounding set): root's containers then get all the others.
    bounding=0x$(awk '/^CapBnd:/ { print $2 }' /proc/self/status)
    if ! ((bounding >> 24 & 1)) && [ "$(apptainer config global --get 'root default capabilities')" = full ]; then
        as_root apptainer capability add --user root all 2>/dev/null # it warns of each
        as_root apptainer capability drop --user root CAP_SYS_RESOURCE
        as_root apptainer config global --set 'root default capabilities' file
    fi
}

# -- slurm -------------------------------------------------------------------------------------------------------------

# The daemons, the clients, and Torque's commands on top of Slurm (qsub). No service runs and nothing is configured: the
# tests start daemons of their own, on configurations of their own (tests/slurm_lab.py).
install_slurm() {
    local packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge slurm-wlm-torque) wanted=() package
    for package in "${packages[@]}"; do
        is_installed "$package" || wanted+=("$package")
    done
    if [ "${#wanted[@]}" -gt 0 ]; then
        apt_update_once
        apt_install_without_services "${wanted[@]}"
        hash -r
    fi
    local path=$PATH:/usr/sbin # where Debian has daemons, and where PATH of a user who is not root does not look
    PATH=$path slurmctld -V >/dev/null || die "slurmctld does not start"
    PATH=$path slurmd -V >/dev/null || die "slurmd does not start"
    PATH=$path munged --version >/dev/null || die "munged does not start"
    check_sbatch || die "the sbatch on PATH does not start: $(command -v sbatch)"
    command -v qsub >/dev/null || die "no qsub on PATH, though slurm-wlm-torque is installed"
    say "$(PATH=$path slurmctld -V)"
}

# Without a configuration, clients do not even tell their version; a pipe counts as an empty one.
check_sbatch() (
    conf=$(mktemp)
    trap 'rm -f "$conf"' EXIT
    printf 'ClusterName=none\nSlurmctldHost=localhost\n' >"$conf"
    SLURM_CONF=$conf sbatch --version >/dev/null
)

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Debian starts a package's services unless policy-rc.d forbids it. The machine's own policy is put back whatever happens:
# hence a trap, and for the trap a subshell, which leaves that of the other part alone.
apt_install_without_services() (
    policy=/usr/sbin/policy-rc.d
    kept=$(as_root mktemp "$policy.XXXXXX")
    trap 'restore_policy "$policy" "$kept"' EXIT
    trap 'exit 1' HUP INT TERM
    if [ -e "$policy" ]; then
        as_root cp -p "$policy" "$kept"
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    apt_install "$@" || die "apt cannot install $*"
)

# An empty copy stands for a machine that had no policy.
restore_policy() {
    if [ -s "$2" ]; then
        as_root mv "$2" "$1"
    else
        as_root rm -f "$1" "$2"
    fi
}

# -- chromium ----------------------------------------------------------------------------------------------------------

# Without any font, texts have no width: fontconfig comes with Chromium, fonts don't.
install_chromium() {
    local wanted=()
    command -v chromium >/dev/null || wanted+=(chromium)
    fc-list 2>/dev/null | grep -q . || wanted+=(fonts-dejavu-core)
    if [ "${#wanted[@]}" -gt 0 ]; then
        apt_update_once
        apt_install "${wanted[@]}" || die "apt cannot install ${wanted[*]}"
        hash -r
    fi
    chromium --version >/dev/null 2>&1 || die "the chromium on PATH does not start: $(command -v chromium)"
    say "$(chromium --version 2>/dev/null)"
}

for part in "${@:-${parts[@]}}"; do
    declare -F "install_$part" >/dev/null || die "no part is named '$part' (there are: ${parts[*]})"
done
for part in "${@:-${parts[@]}}"; do
    "install_$part"
done
