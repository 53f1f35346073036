#!/bin/sh
# The last step of a CI job that setup.sh has set up: waits, two minutes at most,
# until what the job has built is uploaded, and says what the cache did. It never
# fails the job.
set -u
larder=${GOCACHEPROG:-$(go env GOCACHEPROG 2>/dev/null)}
case $larder in # its first word, as the go command reads it: in quotes, if need be
\'*) larder=${larder#?} && larder=${larder%%\'*} ;;
\"*) larder=${larder#?} && larder=${larder%%\"*} ;;
*) larder=${larder%% *} ;;
esac
[ -n "$larder" ] && command -v "$larder" >/dev/null || exit 0
"$larder" flush -limit "${LARDER_FLUSH_LIMIT:-2m}" >&2 || true
"$larder" stats -n 0 || true
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || "$larder" stats -markdown >>"$GITHUB_STEP_SUMMARY" || true
[ -z "${LARDER_METRICS:-}" ] || "$larder" stats -openmetrics >"$LARDER_METRICS" || true
