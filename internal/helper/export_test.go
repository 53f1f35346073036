package helper

var ModulePath = modulePath
