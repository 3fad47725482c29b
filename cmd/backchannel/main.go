package main

import (
	"context"
	"os"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	u := &ui{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), now: time.Now, exit: os.Exit}
	return u.run(context.Background(), os.Args[1:])
}
