package docs

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	salt   = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8"
	game   = "aMaoIHJEsfEIjo_6ak5A8Q" // the channel of the examples, as testdata/vectors has it
	bearer = "moodle.k1.i4d2qUW_TTtPpLOw3I3E6vt4NQChvC7AwtYkV7FfFus"
)

func dsn(address string) string { return "http://moodle:k1." + secret + "." + salt + "@" + address }

func subkey(t *testing.T, use string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, raw, nil, "backchannel/v1/"+use, 32)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// snippets writes the PHP examples of protocol.md into a directory, each under the name in the comment before it.
func snippets(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	found := regexp.MustCompile("(?s)<!-- test:(\\w+\\.php) -->\n```php\n(.*?)```").FindAllSubmatch(text, -1)
	if len(found) != 4 {
		t.Fatalf("protocol.md has %d PHP examples with a name, want 4", len(found))
	}
	for _, m := range found {
		if err := os.WriteFile(filepath.Join(dir, string(m[1])), m[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func php(t *testing.T, dir, file string, env ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "php"), file) //nolint:gosec // a file of ours
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("php %s: %v\n%s", file, err, out)
	}
	return out
}

func TestThePublishExampleSendsWhatTheContractSays(t *testing.T) {
	var auth, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		auth, body = r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"), string(b)
		_, _ = fmt.Fprint(w, `{"id":"x7k2m9qa-1043"}`)
	}))
	defer server.Close()
	out := php(t, snippets(t), "publish.php", "BACKCHANNEL_DSN="+dsn(server.Listener.Addr().String()))
	if string(out) != `{"id":"x7k2m9qa-1043"}` {
		t.Errorf("printed %q", out)
	}
	if want := "POST /v1/publish Bearer " + bearer; auth != want {
		t.Errorf("sent %q, want %q", auth, want)
	}
	if want := `{"channel":"` + game + `","data":{"stage":3},"id":"game-7-stage-3"}`; body != want {
		t.Errorf("sent %s, want %s", body, want)
	}
}

func TestTheGrantExampleMintsAGrantThatVerifies(t *testing.T) {
	token := strings.Split(string(php(t, snippets(t), "grant.php", "BACKCHANNEL_DSN="+dsn("rt.school.example"))), ".")
	if len(token) != 3 {
		t.Fatalf("%d parts", len(token))
	}
	want := base64.RawURLEncoding.EncodeToString(sign(subkey(t, "grant"), token[0]+"."+token[1]))
	if token[2] != want {
		t.Errorf("the signature does not verify")
	}
	var claims struct {
		Iss, Aud, Sub, Sid, Jti string
		Iat, Exp, Until, From   float64
		Ch                      []struct{ H string }
		Send                    []string
	}
	raw, _ := base64.RawURLEncoding.DecodeString(token[1])
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	now := float64(time.Now().Unix())
	if claims.Iss != "moodle" || claims.Aud != "backchannel" || claims.Sub != "5" || claims.Sid == "" || claims.Jti == "" {
		t.Errorf("claims: %s", raw)
	}
	if claims.Iat < now-60 || claims.Iat > now+60 || claims.Exp != claims.Iat+600 || claims.Until <= claims.Exp || claims.From > claims.Iat+1 {
		t.Errorf("times: %s", raw)
	}
	if len(claims.Ch) != 1 || claims.Ch[0].H != game || len(claims.Send) != 1 {
		t.Errorf("channels: %s", raw)
	}
}

// delivery is one attempt of a webhook.
type delivery struct {
	id, body  string
	time      int64
	signature string
}

func (d delivery) post(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", d.id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(d.time, 10))
	req.Header.Set("webhook-signature", d.signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(out)
}

func signed(t *testing.T, id, body string, at time.Time) delivery {
	mac := sign(subkey(t, "webhook"), fmt.Sprintf("%s.%d.%s", id, at.Unix(), body))
	return delivery{id, body, at.Unix(), "v1,AAAA v1," + base64.StdEncoding.EncodeToString(mac)}
}

func TestTheWebhookExampleVerifiesAndActsOnce(t *testing.T) {
	url := servePHP(t, snippets(t), "webhook.php")
	now := time.Now()
	first := signed(t, "m1", `{"user":"5","data":{"answer":3}}`, now)
	const reply = `{"thanks":"5","answer":3}`
	if status, body := first.post(t, url); status != http.StatusOK || body != reply {
		t.Fatalf("a call: %d %s", status, body)
	}
	again := signed(t, "m1", `{"user":"5","data":{"answer":4}}`, now.Add(time.Second))
	if status, body := again.post(t, url); status != http.StatusOK || body != reply {
		t.Errorf("a repeat must get the stored reply: %d %s", status, body)
	}
	for name, bad := range map[string]delivery{
		"forged": {"m2", first.body, first.time, "v1," + strings.Repeat("A", 44)},
		"old":    signed(t, "m3", first.body, now.Add(-301*time.Second)),
		"moved":  {"m4", first.body, first.time, first.signature},
	} {
		if status, _ := bad.post(t, url); status != http.StatusUnauthorized {
			t.Errorf("%s: %d, want 401", name, status)
		}
	}
}

// servePHP runs PHP's own server over dir until the test ends and returns the URL of file.
func servePHP(t *testing.T, dir, file string) string {
	t.Helper()
	name := tool(t, "php")
	if !bytes.Contains(php(t, dir, "-m"), []byte("pdo_sqlite")) {
		t.Skip("PHP has no pdo_sqlite (Debian: php-sqlite3)")
	}
	address := freePort(t)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, "-S", address, "-t", dir) //nolint:gosec // a directory of ours
	cmd.Env = append(os.Environ(), "BACKCHANNEL_DSN="+dsn("rt.school.example"), "DATABASE=sqlite:"+filepath.Join(dir, "seen.db"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		http.DefaultClient.CloseIdleConnections()
	})
	awaitListener(t, address)
	return "http://" + address + "/" + file
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nothing listens on %s: %v", address, err)
		}
	}
}
