#!/usr/bin/env bash
# The alerts by promtool: their syntax and templates, and that each fires on what it is for and is quiet where that is not so.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need promtool

cd deploy/prometheus
holds 'the rules can be read' "$PROMTOOL" check rules alerts.yml
holds 'the cases of the alerts' "$PROMTOOL" test rules alerts.test.yml

# fires NAME and quiet NAME: whether a case says so of the alert.
fires() { grep -F "exp_samples: [{labels: 'ALERTS{alertname=\"$1\", alertstate=\"firing\"" alerts.test.yml; }
quiet() { grep -F "ALERTS{alertname=\"$1\"" alerts.test.yml | grep -F 'exp_samples: []'; }
mapfile -t alerts < <(sed -n 's/^ *- alert: //p' alerts.yml)
[ ${#alerts[@]} -gt 15 ] || fault "only ${#alerts[@]} alerts were found"
for alert in "${alerts[@]}"; do
  holds "$alert: a case where it fires" fires "$alert"
  holds "$alert: a case where it is quiet" quiet "$alert"
done
summary "${#alerts[@]} alerts"
