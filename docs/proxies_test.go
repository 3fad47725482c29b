package docs

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A proxy that holds events back does so until much more has come, which is never here: heartbeats take 15 s. On an idle
// machine a hundredth of this would do.
const prompt = 10 * time.Second

const nginxAround = `daemon off; pid nginx.pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server { listen %s;
%s
  }
}
`

const apacheAround = `ServerRoot %[1]s
ServerName localhost
Listen %[2]s
PidFile %[1]s/apache.pid
ErrorLog /dev/stderr
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
DefaultRuntimeDir %[1]s
Mutex sem
%[3]s
`

func TestTheLinesForNginxPassStreams(t *testing.T) {
	nginx := daemon(t, "nginx")
	dir, broker, front := program(t), freePort(t), freePort(t)
	lines := replaced(t, section(t, "test:nginx"), "127.0.0.1:8480", broker)
	write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(nginxAround, front, lines))
	behind(t, dir, broker, front, func() {
		background(t, dir, nil, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	})
}

func TestTheLineForApachePassesStreams(t *testing.T) {
	apache := daemon(t, "apache2")
	dir, broker, front := program(t), freePort(t), freePort(t)
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // its workers are another user
		t.Fatal(err)
	}
	line := replaced(t, section(t, "test:apache"), "127.0.0.1:8480", broker)
	write(t, filepath.Join(dir, "apache.conf"), fmt.Sprintf(apacheAround, dir, front, line))
	behind(t, dir, broker, front, func() {
		background(t, dir, nil, apache, "-f", filepath.Join(dir, "apache.conf"), "-DFOREGROUND")
	})
}

// daemon finds a server, which is not in every user's path.
func daemon(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// behind runs a broker and a proxy before it, and looks through it as a page does.
func behind(t *testing.T, dir, address, front string, proxy func()) {
	t.Helper()
	env := []string{"BACKCHANNEL_LISTEN=" + address, "BACKCHANNEL_ADMIN=127.0.0.1:0", "BACKCHANNEL_PUBLIC_URL=http://" + front + "/rt"}
	command := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "backchannel"), args...) //nolint:gosec // our own
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("backchannel %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	command("site", "add", "school", "--origin", "http://"+front)
	proxy() // before the broker, so that it ends after it: Apache waits ten seconds for open streams when it stops
	background(t, dir, env, filepath.Join(dir, "backchannel"), "serve")
	awaitListener(t, address)
	awaitListener(t, front)

	grant := command("grant", "--user", "5", "--channel", "lobby")
	page := follow(t, "http://"+front+"/rt/v1/stream", `{"grants":["`+grant+`"]}`)
	page.await(t, "hello")
	page.await(t, "heartbeat")
	for n := range 3 {
		id := command("publish", "lobby", fmt.Sprintf(`{"n":%d}`, n))
		if got := page.await(t, ""); got.id != id {
			t.Fatalf("event %d came as %q, want %q", n, got.id, id)
		}
	}
	again := follow(t, "http://"+front+"/rt/v1/stream", fmt.Sprintf(`{"resume":%q,"cursor":%q}`, page.resume, page.first))
	again.await(t, "hello")
	again.await(t, "")
	if last := again.await(t, ""); last.id != page.last {
		t.Errorf("after resuming the last event is %q, want %q", last.id, page.last)
	}
}

// page reads a stream.
type page struct {
	frames              chan frame
	resume, first, last string
}

type frame struct{ id, event, data string }

func follow(t *testing.T, url, body string) *page {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // closed by the cleanup
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s answered %s", url, res.Status)
	}
	p, ended := &page{frames: make(chan frame, 64)}, make(chan struct{})
	go func() {
		defer close(ended)
		var f frame
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				f.id = value
			case "event":
				f.event = value
			case "data":
				f.data = value
			case "":
				if f.data != "" {
					p.frames <- f
				}
				f = frame{}
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
		<-ended
		http.DefaultClient.CloseIdleConnections()
	})
	return p
}

// await returns the next frame, which must come promptly and be of a type.
func (p *page) await(t *testing.T, event string) frame {
	t.Helper()
	select {
	case f := <-p.frames:
		if f.event != event {
			t.Fatalf("got %q, want %q: %s", f.event, event, f.data)
		}
		if event == "hello" {
			var hello struct{ Resume string }
			if err := json.Unmarshal([]byte(f.data), &hello); err != nil {
				t.Fatal(err)
			}
			p.resume = hello.Resume
		}
		if event == "" {
			p.last = f.id
			if p.first == "" {
				p.first = f.id
			}
		}
		return f
	case <-time.After(prompt):
		t.Fatalf("no %q within %s: the proxy holds it back", event, prompt)
	}
	return frame{}
}
