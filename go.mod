module github.com/larder-build/larder

go 1.24.0

require (
	github.com/BurntSushi/toml v1.6.0
	github.com/rogpeppe/go-internal v1.14.1
	golang.org/x/sys v0.38.0
)

require golang.org/x/tools v0.26.0 // indirect
