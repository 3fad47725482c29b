package target

import (
	"context"
	"os/exec"
	"strings"
)

// libraryKind is a server made of a Go library: this program in another role (see package peers).
func libraryKind(name, about string, f Features) Kind {
	return Kind{
		Name: name, About: about, Features: f,
		Prepare: func(context.Context, *Host) error { return nil },
		Start: func(ctx context.Context, h *Host, history bool) (*Server, error) {
			addr := ""
			args := []string{"peer", name}
			if history {
				args = append(args, "replay")
			}
			cmd := exec.Command(h.Self, args...) // #nosec G204 -- ourselves
			p, err := h.launch(ctx, cmd, func(line string) bool {
				rest, ok := strings.CutPrefix(line, "listening ")
				addr = rest
				return ok
			})
			if err != nil {
				return nil, err
			}
			s := &Server{
				Features: f, Name: name, Addr: addr, process: p,
				Subscribe: func(_ int, channels []string, lastID string) []byte {
					return get("/s?stream="+channels[0], "Last-Event-ID", lastID)
				},
				Publish: func(dst []byte, channel string, data []byte) []byte {
					return append(post(dst, "/p?stream="+channel, "Authorization: Bearer bench\r\n", len(data)), data...)
				},
			}
			if name == "centrifuge" { // its events carry an offset in their data and no id
				s.ResumeID = func(body []byte) string { return strings.Trim(string(body), `{}"ofset:`) }
			}
			return s, nil
		},
	}
}
