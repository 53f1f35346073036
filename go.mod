module github.com/larder-build/larder

go 1.24.0

require (
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/rogpeppe/go-internal v1.14.1 // indirect
)
