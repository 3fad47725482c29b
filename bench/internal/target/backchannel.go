package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func backchannelKind() Kind {
	return Kind{
		Name: "backchannel", About: "this checkout; Badger on disk, synced; a grant per subscriber",
		Features: backchannelFeatures(),
		Prepare: func(ctx context.Context, h *Host) error {
			cmd := exec.CommandContext(ctx, "go", "build", "-tags", "nomsgpack", "-trimpath", "-o", brokerPath(h), "./cmd/backchannel") // #nosec G204 -- into our directory
			cmd.Dir = h.Checkout
			// On both cores: nothing is measured yet.
			out := &strings.Builder{}
			cmd.Stdout, cmd.Stderr = out, out
			err := h.Cores.Start(cmd, true)
			if err == nil {
				err = cmd.Wait()
			}
			if err != nil {
				return fmt.Errorf("build the broker in %s: %w\n%s", h.Checkout, err, out)
			}
			return nil
		},
		Start: startBackchannel,
	}
}

func backchannelFeatures() Features {
	return Features{Durable: true, Replay: true, FirstFrame: true, Batch: true, Entries: true}
}

func brokerPath(h *Host) string { return filepath.Join(h.Dir, "backchannel") }

func startBackchannel(ctx context.Context, h *Host, _ bool) (*Server, error) {
	dir, err := os.MkdirTemp(h.Dir, "broker-")
	if err != nil {
		return nil, err
	}
	keys := newSite()
	conf := "data = \"data\"\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nlog = \"json\"\n" +
		"pprof = true\n\n[limits]\nstreams = 100000\n\n" + keys.toml()
	path := filepath.Join(dir, "backchannel.toml")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	var addr struct{ Msg, Public, Admin string }
	cmd := exec.Command(brokerPath(h), "serve", "--config", path) // #nosec G204 -- built by us
	p, err := h.launch(ctx, cmd, func(line string) bool {
		return json.Unmarshal([]byte(line), &addr) == nil && addr.Msg == "listening"
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	auth := "Authorization: Bearer " + keys.bearer() + "\r\n"
	s := &Server{
		Features: backchannelFeatures(), Name: "backchannel", Addr: addr.Public, process: p, dir: dir,
		Subscribe: func(i int, channels []string, lastID string) []byte {
			body := subscribeBody(keys.grant(i, channels, time.Now()), lastID)
			return append(post(nil, "/v1/stream", "", len(body)), body...)
		},
		Publish: func(dst []byte, channel string, data []byte) []byte {
			dst = post(dst, "/v1/publish", auth, len(`{"channel":"","data":}`)+len(channel)+len(data))
			return appendDraft(dst, channel, data)
		},
		PublishMany: func(dst []byte, channels []string, data [][]byte) []byte {
			return appendBatch(dst, auth, channels, data)
		},
		Position: position,
	}
	s.Profile = func(ctx context.Context, path string) ([]byte, error) {
		return profile(ctx, addr.Admin, filepath.Join(dir, "data", "admin.password"), path)
	}
	return s, nil
}

func subscribeBody(grant, lastID string) string {
	if lastID == "" {
		return `{"grants":["` + grant + `"]}`
	}
	return `{"grants":["` + grant + `"],"cursor":"` + lastID + `"}`
}

func appendDraft(dst []byte, channel string, data []byte) []byte {
	dst = append(dst, `{"channel":"`...)
	dst = append(dst, channel...)
	dst = append(dst, `","data":`...)
	dst = append(dst, data...)
	return append(dst, '}')
}

func appendBatch(dst []byte, auth string, channels []string, data [][]byte) []byte {
	body := []byte(`{"events":[`)
	for i := range channels {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendDraft(body, channels[i], data[i])
	}
	body = append(body, "]}"...)
	return append(post(dst, "/v1/publish", auth, len(body)), body...)
}

// position is the sequence number in {"id":"<epoch>-<seq>"}.
func position(body []byte) (int64, error) {
	var a struct{ ID string }
	if err := json.Unmarshal(body, &a); err != nil {
		return 0, fmt.Errorf("answer to a publish %.200q: %w", body, err)
	}
	_, seq, _ := strings.Cut(a.ID, "-")
	return strconv.ParseInt(seq, 10, 64)
}

// profile asks the admin listener, which wants the password that the broker made at its first start.
func profile(ctx context.Context, addr, passwordFile, path string) ([]byte, error) {
	password, err := os.ReadFile(passwordFile) // #nosec G304 -- of the broker that we started
	if err != nil {
		return nil, fmt.Errorf("read the admin password: %w", err)
	}
	url := "http://" + addr + "/debug/pprof/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("admin", strings.TrimSpace(string(password)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch profile: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status + ": " + string(b))
	}
	return b, err
}
