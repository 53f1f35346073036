module github.com/larder-build/larder

go 1.24.0
