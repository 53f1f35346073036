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
# lines to standard output otherwise, eval "$(sh setup.sh)", and to env.sh in its
# directory, for a later shell of the job: . "$CI_BUILDS_DIR/larder-setup-$(id -u)/env.sh"
set -u

say() { echo "larder: $*" >&2; }
give_up() { say "$*; the job goes on without the cache"; exit 0; }

# A directory may have any character in its name: what is written is quoted for who reads it.
quote() { printf "'%s'" "$(printf %s "$1" | LC_ALL=C sed "s/'/'\\\\''/g")"; }
line() { # of shell
	printf '%s\n' "$1"
	printf '%s\n' "$1" >>"$base/env.sh"
}
keep() { # NAME VALUE
	if [ -z "${GITHUB_ENV:-}" ]; then
		line "export $1=$(quote "$2")"
		return
	fi
	case $2 in
	*"
"*) printf '%s<<larder_end_%s\n%s\nlarder_end_%s\n' "$1" "$$" "$2" "$$" >>"$GITHUB_ENV" ;;
	*) printf '%s=%s\n' "$1" "$2" >>"$GITHUB_ENV" ;;
	esac
}
absolute() { case $1 in /*) printf '%s\n' "$1" ;; *) printf '%s/%s\n' "$PWD" "$1" ;; esac }

command -v go >/dev/null || give_up "there is no go command yet (set Go up first)"
case $(go env GOVERSION) in
go1.2[0-3]* | go1.1*) give_up "$(go env GOVERSION) knows no cache programs (Larder needs Go 1.24)" ;;
esac

base=$(absolute "${RUNNER_TEMP:-${CI_BUILDS_DIR:-${TMPDIR:-/tmp}}}")/larder-setup-$(id -u)
(umask 077 && mkdir -p "$base" && : >"$base/env.sh") || give_up "$base cannot be made"

if larder=$(command -v larder) && larderd=$(command -v larderd); then
	larderd=$(absolute "$larderd")
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
		printf '%s\n' "$base/bin" >>"$GITHUB_PATH"
	else
		line "export PATH=$(quote "$base/bin"):\"\$PATH\""
	fi
fi
"$larder" version >&2 || give_up "$larder does not run"
prog=$("$larder" enable -print) || give_up "$larder cannot be GOCACHEPROG"

if [ -n "${LARDER_TOKEN:-}" ]; then
	(umask 077 && printf '%s\n' "$LARDER_TOKEN" >"$base/token") || give_up "the token cannot be kept"
	keep LARDER_TOKEN_FILE "$base/token"
elif [ -n "${LARDER_TOKEN_FILE:-}" ]; then
	keep LARDER_TOKEN_FILE "$LARDER_TOKEN_FILE"
fi
[ -z "${LARDER_REMOTE:-}" ] || keep LARDER_REMOTE "$LARDER_REMOTE"
[ -z "${LARDER_MODE:-}" ] || keep LARDER_MODE "$LARDER_MODE"
keep LARDER_LARDERD "$larderd"
keep GOCACHEPROG "$prog"
keep GOLANGCI_LINT_CACHEPROG "$prog" # its own results; nobody else reads it
