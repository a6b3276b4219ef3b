#!/usr/bin/env bash
# The units by systemd-analyze: verify, and security with an exposure of at most 2.0, also with each drop-in.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
have systemd-analyze || die 'systemd-analyze is missing' 'apt-get install systemd'
UNITS=(astromech.service astromech-refresh.service astromech-refresh.timer)

# verify looks for the programs, which are not installed here: /bin/true stands in for them.
mkdir -p "$WORK/units"
for unit in "${UNITS[@]}"; do sed 's|/usr/local/bin/[a-z]*|/bin/true|' "deploy/systemd/$unit" >"$WORK/units/$unit"; done
# Its exit code says nothing of unknown keys, so nothing may be said of ours at all.
verified() {
  systemd-analyze verify --man=no --recursive-errors=no "$@" >"$WORK/said" 2>&1 || { cat "$WORK/said"; return 1; }
  if grep -F "$WORK" "$WORK/said"; then return 1; fi
}
for unit in "${UNITS[@]}"; do holds "$unit: verify" verified "$WORK/units/$unit"; done

# exposure MOST UNIT: in tenths of systemd's own marks.
exposure() { systemd-analyze security --offline=true --threshold="$1" --no-pager "$2"; }
holds 'astromech.service: an exposure of 2.0 at most' exposure 20 "$WORK/units/astromech.service"
holds 'astromech-refresh.service: an exposure of 2.0 at most' exposure 20 "$WORK/units/astromech-refresh.service"
CHECKED=$((CHECKED + 1))
if exposure 5 "$WORK/units/astromech.service" >/dev/null 2>&1; then fault 'an exposure of 0.5 is refused: the threshold is looked at'; fi

for dropin in credentials gpu; do
  mkdir -p "$WORK/$dropin/astromech.service.d"
  cp "$WORK/units/astromech.service" "$WORK/$dropin/"
  cp "deploy/systemd/astromech.service.d/$dropin.conf.example" "$WORK/$dropin/astromech.service.d/$dropin.conf"
  holds "with $dropin.conf: verify" verified "$WORK/$dropin/astromech.service"
  # security reads no drop-ins beside a file that it is given: the last word of each key counts, so appending is the same.
  { cat "$WORK/units/astromech.service" && sed -n '/^\[Service\]/,$p' "deploy/systemd/astromech.service.d/$dropin.conf.example"; } >"$WORK/$dropin.service"
done
holds 'with credentials.conf: an exposure of 2.0 at most' exposure 20 "$WORK/credentials.service"
holds 'with gpu.conf: an exposure of 2.0 at most' exposure 20 "$WORK/gpu.service"
has 'secrets come by LoadCredential' deploy/systemd/astromech.service.d/credentials.conf.example LoadCredential=
summary "${#UNITS[@]} units and 2 drop-ins"
