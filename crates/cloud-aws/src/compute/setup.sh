#!/bin/bash
# Installs the container engine, Compose and StackPro's agent, and tells the agent what it is. Runs at every boot,
# before the agent, and may be run again at any time: what is there already stays.
set -euo pipefail
umask 077
: "${RELEASE_URL:?}" "${RELEASE_SHA256:?}"
metadata=${METADATA_URL:-http://169.254.169.254}/latest
root=${STACKPRO_ROOT:-} # a folder instead of the machine's own, in tests
bin=$root/usr/local/bin
kept=$root/var/lib/stackpro
mkdir -p "$bin" "$kept"

# A setup that fails says so to the control plane, since nobody looks into the machine.
if [ -z "${IS_LOGGED:-}" ]; then
  status=0
  IS_LOGGED=1 "$0" 2>&1 | tee "$kept/setup.log" || status=${PIPESTATUS[0]}
  if [ "$status" != 0 ]; then
    curl --silent --show-error --max-time 20 --config "$root/etc/stackpro/report.curl" --data-binary "@$kept/setup.log" || true
  fi
  exit "$status"
fi

say() { echo "stackpro-setup: $*"; }
get() { curl --fail --silent --show-error --retry 4 --retry-connrefused --connect-timeout 5 --max-time 600 "$@"; }
has_sum() { [ -f "$2" ] && echo "$1  $2" | sha256sum --check --status; } # sum, file

# What the release holds, each file with its checksum; by the checksum of this list everything is checked.
sums=$kept/SHA256SUMS
if ! has_sum "$RELEASE_SHA256" "$sums"; then
  get --output "$sums.new" "$RELEASE_URL/SHA256SUMS"
  has_sum "$RELEASE_SHA256" "$sums.new" || { say "SHA256SUMS of $RELEASE_URL is not the one that this instance was launched for"; exit 1; }
  mv "$sums.new" "$sums"
fi

install_file() { # name in the release, where to
  local sum
  sum=$(awk -v name="$1" '$2 == name || $2 == "*" name { print $1 }' "$sums")
  [ -n "$sum" ] || { say "the release has no $1"; exit 1; }
  has_sum "$sum" "$2" && return
  get --output "$2.new" "$RELEASE_URL/$1"
  has_sum "$sum" "$2.new" || { say "$1 of $RELEASE_URL is not what its checksum says"; exit 1; }
  chmod 755 "$2.new"
  mv "$2.new" "$2"
  say "installed $1"
}

machine=$(uname -m)
install_file "stackpro-$machine" "$bin/stackpro"
install_file "docker-compose-$machine" "$bin/docker-compose"
if ! command -v dockerd >/dev/null; then
  dnf install --quiet --assumeyes docker
fi
systemctl enable --quiet --now docker

# The metadata service answers whoever has a token of its own (IMDSv2), and nothing in a container.
token=$(get --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token")
ask() { get --header "X-aws-ec2-metadata-token: $token" "$metadata/meta-data/$1"; }
id=$(ask instance-id)
address=$(ask public-ipv4)
[[ $id =~ ^i-[0-9a-f]+$ && $address =~ ^[0-9.]+$ ]] || { say "the metadata service tells no id and public address"; exit 1; }

# The address is another one after each stop.
sed -e "s/@ID@/$id/g" -e "s/@ADDRESS@/$address/g" "$root/etc/stackpro/agent.json.in" >"$kept/agent.json.new"
mv "$kept/agent.json.new" "$kept/agent.json"
say "$id at $address is ready for its agent"
