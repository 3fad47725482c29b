package main

import (
	"context"
	"os"
	"time"
)

func main() {
	u := &ui{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ(), now: time.Now, exit: os.Exit}
	os.Exit(u.run(context.Background(), os.Args[1:]))
}
