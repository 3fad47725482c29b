package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// nchanModule is where Debian puts it.
const nchanModule = "/usr/lib/nginx/modules/ngx_nchan_module.so"

// nchanConfig follows nchan's documentation: one worker, a buffer of 2,000 messages per channel, no authorisation.
const nchanConfig = `load_module %[1]s;
daemon off;
worker_processes 1;
worker_rlimit_nofile %[4]d;
pid %[2]s/nginx.pid;
error_log stderr warn;
events { worker_connections 19000; multi_accept on; }
http {
  access_log off;
  client_body_temp_path %[2]s/body;
  proxy_temp_path %[2]s/proxy;
  fastcgi_temp_path %[2]s/fastcgi;
  uwsgi_temp_path %[2]s/uwsgi;
  scgi_temp_path %[2]s/scgi;
  keepalive_requests 1000000000;
  nchan_shared_memory_size 1024M;
  nchan_message_buffer_length 2000;
  nchan_message_timeout 10m;
  server {
    listen 127.0.0.1:%[3]d backlog=4096;
    location ~ ^/p/(.+)$ { nchan_publisher; nchan_channel_id $1; }
    location ~ ^/s/(.+)$ { nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest; nchan_eventsource_ping_interval 0; }
  }
}
`

func nchanKind() Kind {
	return Kind{
		Name: "nchan", About: "nginx module, one worker, messages in shared memory",
		Features: Features{Replay: true},
		Prepare: func(context.Context, *Host) error {
			if _, err := os.Stat(nchanModule); err != nil {
				return errors.New("not installed (Debian: apt-get install nginx libnginx-mod-nchan)")
			}
			_, err := nginx()
			return err
		},
		Start: startNchan,
	}
}

func nginx() (string, error) {
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("nginx is not installed")
}

func startNchan(ctx context.Context, h *Host, _ bool) (*Server, error) {
	path, err := nginx()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(h.Dir, "nchan-")
	if err != nil {
		return nil, err
	}
	// The worker runs as another user, and needs to get to its directories for temporary files.
	port, err := freePort(ctx)
	if err == nil {
		err = os.Chmod(dir, 0o755) // #nosec G302 -- as said
	}
	if err == nil {
		conf := fmt.Sprintf(nchanConfig, nchanModule, dir, port, 20000)
		err = os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o600)
	}
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	cmd := exec.Command(path, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf")) // #nosec G204 -- nginx
	p, err := h.launchListening(ctx, cmd, addr)
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	return &Server{
		Features: Features{Replay: true}, Name: "nchan", Addr: addr, process: p, dir: dir,
		Subscribe: func(_ int, channels []string, lastID string) []byte {
			return get("/s/"+channels[0], "Last-Event-ID", lastID)
		},
		Publish: func(dst []byte, channel string, data []byte) []byte {
			return append(post(dst, "/p/"+channel, "", len(data)), data...)
		},
	}, nil
}

// freePort asks the kernel for a port, for servers that cannot tell which one they were given.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// launchListening starts a server that says nothing when it is ready: a connection must succeed.
func (h *Host) launchListening(ctx context.Context, cmd *exec.Cmd, addr string) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	err = h.Cores.Start(cmd, false)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go p.read(r, nil, nil)
	try := time.NewTicker(20 * time.Millisecond)
	defer try.Stop()
	for range 500 {
		if c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr); err == nil {
			return p, c.Close()
		}
		select {
		case <-try.C:
			continue
		case <-p.done:
		case <-ctx.Done():
		}
		break
	}
	_ = p.stop()
	return nil, fmt.Errorf("start %s: nothing listens on %s; it said:\n%s", filepath.Base(cmd.Path), addr, p.said())
}
