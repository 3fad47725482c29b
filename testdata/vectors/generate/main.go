// Command generate writes the vectors beside it: values that every client and the broker itself are checked against.
// It knows the contract alone and imports nothing of the broker, so that an error there cannot hide in both.
//
//	go run ./testdata/vectors/generate          write
//	go run ./testdata/vectors/generate -check   compare with what is written and fail where it differs
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("dir", filepath.Join("testdata", "vectors"), "where the vectors are")
	check := flag.Bool("check", false, "compare instead of writing")
	flag.Parse()
	if err := run(*dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(dir string, check bool) error {
	files := map[string]any{
		"keys.json":     keys(),
		"channels.json": channels(),
		"rooms.json":    rooms(),
		"dsn.json":      dsns(),
		"grants.json":   grants(),
		"webhooks.json": webhooks(),
		"cursors.json":  cursors(),
		"seal.json":     seals(),
		"frames.json":   frames(),
		"filters.json":  filters(),
	}
	for name, content := range files {
		want, err := encode(content)
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		path := filepath.Join(dir, name)
		if !check {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				return err
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs from what this program makes; run it without -check and look at the change", name)
		}
	}
	return nil
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}
