// Command backchannel is the broker and its tools: one binary and one directory.
//
// App is the program as a value: configuration in, listeners and goroutines inside Run, nothing left when it returns.
// The commands that talk to a broker need only a DSN; those that change configuration need its files.
package main
