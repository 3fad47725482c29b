package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// section is the code block of the README that follows the comment <!-- name -->.
func section(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- " + regexp.QuoteMeta(name) + " -->\n```\\w+\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("the README has no block named %s", name)
	}
	return string(m[1])
}

// program builds the command into a new directory, which it returns.
func program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	runIn(t, "..", tool(t, "go"), "build", "-tags", "nomsgpack", "-o", filepath.Join(dir, "backchannel"), "./cmd/backchannel")
	return dir
}

// replaced puts the ports of this test in the place of those that the README names; each must be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the README does not say %q any more", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// The blocks are run one after the other by one shell, as a reader pastes them; what a reader's eyes wait for, the
// lines in between wait for.
func TestTheTourOfTheReadmeWorksAsPrinted(t *testing.T) {
	bash := tool(t, "bash")
	for _, name := range []string{"curl", "python3", "openssl"} {
		tool(t, name)
	}
	dir := program(t)
	listen, hook := freePort(t), freePort(t)
	tour := section(t, "tour:setup") +
		"until curl -sf http://127.0.0.1:8480/healthz >/dev/null; do sleep 0.1; done\n" +
		replaced(t, section(t, "tour:subscribe"), `]}' &`, `]}' >stream &`) +
		"until grep -q heartbeat stream; do sleep 0.1; done\n" +
		replaced(t, section(t, "tour:publish"), `"stage":3}}'`, `"stage":3}}' >published`) +
		"until grep -q stage stream; do sleep 0.1; done\n" +
		replaced(t, section(t, "tour:message"), "PYTHON' &", "PYTHON' >hook &", "curl -s http", "until curl -s http://127.0.0.1:9000 >/dev/null; do sleep 0.1; done\ncurl -s http", `"answer":56}}'`, `"answer":56}}' >outcome`)
	tour = replaced(t, tour, "go build -o backchannel ./cmd/backchannel", "test -x backchannel", "127.0.0.1:8480", listen, "127.0.0.1:9000", hook, `"127.0.0.1", 9000`, `"127.0.0.1", `+strings.Split(hook, ":")[1])

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-euc", tour) //nolint:gosec // the README's own words
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(os.Environ(), "BACKCHANNEL_LISTEN="+listen, "BACKCHANNEL_ADMIN=127.0.0.1:0")
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log // a file: what runs on in the background must not be waited for
	err = cmd.Run()
	if kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); kill != nil {
		t.Errorf("what the tour leaves running: %v", kill)
	}
	said := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%v", err)
		}
		return string(b)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, said("log"))
	}
	var published struct{ ID string }
	if err := json.Unmarshal([]byte(said("published")), &published); err != nil || published.ID == "" {
		t.Errorf("published: %s", said("published"))
	}
	if want := "id: " + published.ID + "\ndata: {\"channel\":\"lobby\","; !strings.Contains(said("stream"), want) {
		t.Errorf("the stream has no %q:\n%s", want, said("stream"))
	}
	if !strings.Contains(said("outcome"), `"outcome":"delivered","reply":{"right":true}`) {
		t.Errorf("outcome: %s", said("outcome"))
	}
	if !strings.Contains(said("hook"), `"component":"quiz"`) {
		t.Errorf("the webhook got: %s", said("hook"))
	}
}

// background starts a server that runs until the test ends.
func background(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...) //nolint:gosec,noctx // the tests name what they run, and end it below
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // by a signal
		if t.Failed() {
			t.Logf("%s said:\n%s", fmt.Sprint(name, args), out.String())
		}
	})
}
