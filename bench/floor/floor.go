// Package floor holds the source of the bare broadcaster, which the benchmark compiles.
package floor

import _ "embed" // for Source

// Source is the program in C. Its name ends in .txt because the go command takes every .c file for cgo.
//
//go:embed floor.c.txt
var Source string
