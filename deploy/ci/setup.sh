#!/bin/sh
# Sets a CI job up to use Larder: finds or installs larder and larderd, keeps the
# token where only the job's user can read it, and has every go command of the job
# use the cache. It never fails the job: where something is missing it says so, and
# the job goes on without the cache.
#
#   LARDER_REMOTE    the team's server; without it the cache is the machine's own
#   LARDER_TOKEN     the token's text, from the CI system's secrets; or
#   LARDER_TOKEN_FILE  a file that has it
#   LARDER_VERSION   what to install, if larder is not on the PATH: a version or "latest"
#   LARDER_SOURCE    a checkout of Larder to install from instead
#
# What it sets goes to $GITHUB_ENV and $GITHUB_PATH if they are set, and as export
# lines to standard output otherwise: eval "$(sh setup.sh)".
set -u

say() { echo "larder: $*" >&2; }
give_up() { say "$*; the job goes on without the cache"; exit 0; }

keep() { # NAME VALUE
	if [ -n "${GITHUB_ENV:-}" ]; then
		printf '%s=%s\n' "$1" "$2" >>"$GITHUB_ENV"
	else
		printf "export %s='%s'\n" "$1" "$(printf %s "$2" | sed "s/'/'\\\\''/g")"
	fi
}

command -v go >/dev/null || give_up "there is no go command yet (set Go up first)"
case $(go env GOVERSION) in
go1.2[0-3]* | go1.1*) give_up "$(go env GOVERSION) knows no cache programs (Larder needs Go 1.24)" ;;
esac

base=${RUNNER_TEMP:-${CI_BUILDS_DIR:-${TMPDIR:-/tmp}}}/larder-setup-$(id -u)
(umask 077 && mkdir -p "$base") || give_up "$base cannot be made"

if larder=$(command -v larder) && larderd=$(command -v larderd); then
	:
else
	# Built with the go command's own cache: there is no larder yet.
	if [ -n "${LARDER_SOURCE:-}" ]; then
		(cd "$LARDER_SOURCE" && GOCACHEPROG='' GOFLAGS='' GOWORK=off GOBIN=$base/bin go install ./cmd/larder ./cmd/larderd) >&2 ||
			give_up "Larder cannot be built from $LARDER_SOURCE"
	else
		at=github.com/larder-build/larder/cmd
		v=${LARDER_VERSION:-latest}
		GOCACHEPROG='' GOFLAGS='' GOWORK=off GOBIN=$base/bin go install "$at/larder@$v" "$at/larderd@$v" >&2 ||
			give_up "Larder $v cannot be installed"
	fi
	larder=$base/bin/larder
	larderd=$base/bin/larderd
	if [ -n "${GITHUB_PATH:-}" ]; then
		echo "$base/bin" >>"$GITHUB_PATH"
	else
		printf 'export PATH="%s:$PATH"\n' "$base/bin"
	fi
fi
"$larder" version >&2 || give_up "$larder does not run"

if [ -n "${LARDER_TOKEN:-}" ]; then
	(umask 077 && printf '%s\n' "$LARDER_TOKEN" >"$base/token") || give_up "the token cannot be kept"
	keep LARDER_TOKEN_FILE "$base/token"
elif [ -n "${LARDER_TOKEN_FILE:-}" ]; then
	keep LARDER_TOKEN_FILE "$LARDER_TOKEN_FILE"
fi
[ -z "${LARDER_REMOTE:-}" ] || keep LARDER_REMOTE "$LARDER_REMOTE"
[ -z "${LARDER_MODE:-}" ] || keep LARDER_MODE "$LARDER_MODE"
keep LARDER_LARDERD "$larderd"
keep GOCACHEPROG "$larder"
keep GOLANGCI_LINT_CACHEPROG "$larder" # its own results; nobody else reads it
