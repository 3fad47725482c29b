package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"backchannel/bench/floor"
)

// floorKind is our own broadcaster in C.
func floorKind(name, about string, f Features, args ...string) Kind {
	return Kind{
		Name: name, About: "bare epoll broadcaster in C: " + about, Features: f,
		Prepare: compileFloor,
		Start: func(ctx context.Context, h *Host, _ bool) (*Server, error) {
			return startFloor(ctx, h, name, args)
		},
	}
}

func floorPath(h *Host) string { return filepath.Join(h.Dir, "floor") }

func compileFloor(ctx context.Context, h *Host) error {
	if _, err := os.Stat(floorPath(h)); err == nil {
		return nil
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		return errors.New("no C compiler; install gcc (Debian: apt-get install gcc libc6-dev)")
	}
	source := floorPath(h) + ".c"
	if err := os.WriteFile(source, []byte(floor.Source), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, cc, "-O2", "-o", floorPath(h), source) // #nosec G204 -- the compiler
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile the floor: %w\n%s", err, out)
	}
	return nil
}

func startFloor(ctx context.Context, h *Host, name string, args []string) (*Server, error) {
	port := 0
	p, err := h.launch(ctx, exec.Command(floorPath(h), args...), func(line string) bool { // #nosec G204 -- built by us
		port, _ = strconv.Atoi(line)
		return true
	})
	if err != nil {
		return nil, err
	}
	return &Server{
		Features: Features{Floor: true}, Name: name, Addr: "127.0.0.1:" + strconv.Itoa(port), process: p,
		Subscribe: func(_ int, channels []string, _ string) []byte { return get("/" + channels[0]) },
		Publish: func(dst []byte, channel string, data []byte) []byte {
			return append(post(dst, "/"+channel, "", len(data)), data...)
		},
	}, nil
}
