package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"backchannel/broker"
	"backchannel/webhooks"
)

const configDir = "../../testdata/config"

// loadFile loads a configuration with a data directory that no other test and no broker has.
func loadFile(t *testing.T, path string, environ ...string) (*Config, error) {
	t.Helper()
	return Source{Path: path, Environ: environ}.Load()
}

func TestWrongConfigurationSaysWhereWhatAndWhatToWrite(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(configDir, "invalid", "*.toml"))
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d files of wrong configuration: %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, err = loadFile(t, f)
			if err == nil {
				t.Fatal("was taken")
			}
			wants := 0
			for line := range strings.Lines(string(text)) {
				if want, found := strings.CutPrefix(strings.TrimSpace(line), "# want: "); found {
					wants++
					if !strings.Contains(err.Error(), want) {
						t.Errorf("want: %s\ngot:\n%s", want, err)
					}
				}
			}
			if wants == 0 {
				t.Error("the file does not say what it wants")
			}
			for _, secret := range []string{"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "not-good-", "hunter2"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the message holds a secret: %s", err)
				}
			}
		})
	}
}

func TestDesignsExampleMeansWhatItSays(t *testing.T) {
	c, err := loadFile(t, filepath.Join(configDir, "valid", "design.toml"))
	if err != nil {
		t.Fatal(err)
	}
	site := c.sites["moodle"]
	if site == nil || len(site.Keys) != 2 || site.Keys[0].ID != "k2" || site.Limits.Streams != 20000 || site.Limits.EventBytes != 256<<10 {
		t.Fatalf("site: %+v", site)
	}
	if !site.AllowsOrigin("https://school.example") {
		t.Error("the origin is not allowed")
	}
	named, ok := c.Endpoint("moodle", "mod_kahoodle")
	if !ok || named.URL.Path != "/other.php" || !named.Idempotent || len(named.Notices) != 2 || len(named.Secrets) != 2 {
		t.Errorf("endpoint of the component: %+v", named)
	}
	other, ok := c.Endpoint("moodle", "mod_quiz")
	if !ok || other.URL.Path != "/webhook.php" || other.Component != "mod_quiz" || other.Idempotent || other.Concurrency != 8 {
		t.Errorf("endpoint of a component without an entry: %+v", other)
	}
	if !slices.Equal(other.Allow, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}) {
		t.Errorf("allow: %v", other.Allow)
	}
	if _, ok := c.Endpoint("tsugi", "mod_quiz"); ok {
		t.Error("another site has an endpoint")
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	path := filepath.Join(configDir, "valid", "empty.toml")
	c, err := loadFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	if c.Data != filepath.Join(absolute(t, filepath.Dir(path)), "data") {
		t.Errorf("data %q is not beside the file", c.Data)
	}
	if c.Listen != want.Listen || c.Retention != want.Retention || c.Limits != want.Limits {
		t.Errorf("got %+v", c)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	p, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEnvironmentOverridesFileAndFlagsOverrideBoth(t *testing.T) {
	path := filepath.Join(configDir, "valid", "design.toml")
	src := Source{
		Path:     path,
		Environ:  []string{"BACKCHANNEL_LISTEN=:1", "BACKCHANNEL_ADMIN=:2", "BACKCHANNEL_RETENTION_AGE=7d", "BACKCHANNEL_LIMITS_EVENT=1KiB", "BACKCHANNEL_DATA=here", "BACKCHANNEL_LOG_LEVEL=warn"},
		Override: (&serveFlags{listen: ":3"}).apply,
	}
	c, err := src.Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":3" || c.Admin != ":2" || c.Retention.Age != Duration(7*24*time.Hour) || c.Limits.Event != 1<<10 || c.LogLevel != slog.LevelWarn {
		t.Errorf("got listen %s, admin %s, age %s, event %s, level %s", c.Listen, c.Admin, c.Retention.Age, c.Limits.Event, c.LogLevel)
	}
	if c.Data != "here" {
		t.Errorf("data from the environment became %q", c.Data)
	}
	if c.sites["moodle"].Limits.EventBytes != 1<<10 {
		t.Error("a site without a limit of its own does not take that of the environment")
	}
}

func TestSiteHasBoundsOfItsOwnBesideThoseOfAll(t *testing.T) {
	c, err := loadFile(t, filepath.Join(configDir, "valid", "site_limits.toml"))
	if err != nil {
		t.Fatal(err)
	}
	want := webhooks.Bounds{
		Queue: 512 << 20, Dead: 256 << 20, Replies: 256 << 20, DeliveryLog: 128 << 20,
		Sites: map[broker.SiteID]webhooks.Bounds{"moodle": {Queue: 64 << 20, Dead: 32 << 20, DeliveryLog: 16 << 20}},
	}
	if got := c.bounds(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := c.sites["moodle"].Limits; got.Streams != 500 || got.EventBytes != 256<<10 {
		t.Errorf("limits beside the bounds: %+v", got)
	}
	text, err := c.effective()
	if err != nil || !strings.Contains(string(text), `queue = "64MiB"`) {
		t.Errorf("check does not print the site's bound: %v\n%s", err, text)
	}
}

func TestUnknownVariableIsWarnedOfAndWrongOneRefused(t *testing.T) {
	path := filepath.Join(configDir, "valid", "empty.toml")
	c, err := loadFile(t, path, "BACKCHANNEL_LISTN=:1", "BACKCHANNEL_DSN=x", "OTHER=1")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "BACKCHANNEL_LISTN is not known") || !strings.Contains(c.warnings[0], "BACKCHANNEL_LISTEN") {
		t.Errorf("warnings: %q", c.warnings)
	}
	if _, err := loadFile(t, path, "BACKCHANNEL_MEMORY=lots"); err == nil || !strings.Contains(err.Error(), "is not a size") {
		t.Errorf("a wrong variable gave %v", err)
	}
}

func TestIncludedFilesHoldSitesOnly(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "backchannel.toml")
	write(t, main, "include = \"sites/*.toml\"\n")
	write(t, filepath.Join(dir, "sites", "a.toml"), "listen = \":1\"\n")
	if _, err := loadFile(t, main); err == nil || !strings.Contains(err.Error(), "a.toml:1: listen: an included file holds [[site]] tables only") {
		t.Errorf("got %v", err)
	}
	write(t, filepath.Join(dir, "sites", "a.toml"), "[[site]]\nname = \"a\"\nkeys = [\"k1."+strings.Repeat("A", 43)+"\"]\nsalt = \"bad\"\n")
	if _, err := loadFile(t, main); err == nil || !strings.Contains(err.Error(), "a.toml:4: site[a].salt") {
		t.Errorf("got %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestComponentTakesItsSitesSettings(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "backchannel.toml")
	s := newSiteConfig("moodle", nil)
	write(t, path, fmt.Sprintf(`[[site]]
name = "moodle"
keys = [%q]
salt = %q
webhook = "https://school.example/hook"
webhook_connect = "10.0.0.5:443"
timeout = "3s"
idempotent = true
concurrency = 3
[[site.component]]
name = "same"
[[site.component]]
name = "own"
webhook = "https://other.example/hook"
idempotent = false
`, s.Keys[0], s.Salt))
	c, err := loadFile(t, path)
	if err != nil {
		t.Fatal(err)
	}
	same, _ := c.Endpoint("moodle", "same")
	own, _ := c.Endpoint("moodle", "own")
	if same.Connect != "10.0.0.5:443" || same.Timeout != 3*time.Second || !same.Idempotent || same.Concurrency != 3 {
		t.Errorf("same: %+v", same)
	}
	if own.Connect != "" || own.Idempotent || own.Timeout != 3*time.Second || own.URL.Host != "other.example" {
		t.Errorf("own: %+v", own)
	}
}

func TestEveryKeyIsDocumentedWithItsTrueDefault(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|") // "", key, default, (environment,) meaning, ""
		if len(cells) >= 5 && strings.HasPrefix(cells[1], " `") {
			environ := ""
			if len(cells) == 6 {
				environ = strings.Trim(cells[3], "` ")
			}
			documented[strings.Trim(cells[1], "` ")] = []string{strings.Trim(cells[2], "` "), environ}
		}
	}
	keys := keyPaths(reflect.TypeFor[Config](), "")
	for _, k := range keys {
		if documented[k] == nil {
			t.Errorf("key %s is not documented", k)
		}
	}
	for k := range documented {
		if !slices.Contains(keys, k) {
			t.Errorf("documented key %s does not exist", k)
		}
	}
	for _, f := range flatten(reflect.ValueOf(*DefaultConfig()), "", envPrefix) {
		if got := documented[f.key]; got != nil && (got[0] != f.value || got[1] != f.env) {
			t.Errorf("key %s is documented as %s (%s), it is %s (%s)", f.key, got[0], got[1], f.value, f.env)
		}
	}
}

type flatField struct{ key, value, env string }

// flatten lists the scalar keys of a configuration with their values as TOML, and their variables.
func flatten(v reflect.Value, prefix, env string) []flatField {
	var out []flatField
	for f, fv := range v.Fields() {
		name := f.Tag.Get("toml")
		switch {
		case f.Anonymous:
			out = append(out, flatten(fv, prefix, env)...)
		case name == "" || fv.Kind() == reflect.Slice:
		case fv.Kind() == reflect.Struct:
			out = append(out, flatten(fv, prefix+name+".", env+f.Tag.Get("envPrefix"))...)
		default:
			value := fmt.Sprint(fv.Interface())
			if fv.Type().PkgPath() != "" || fv.Kind() == reflect.String { // our own types are written as strings
				value = `"` + value + `"`
			}
			e := ""
			if tag := f.Tag.Get("env"); tag != "" {
				e = env + tag
			}
			out = append(out, flatField{prefix + name, value, e})
		}
	}
	return out
}

func TestSizesAndDurationsReadWhatTheyPrint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Size(rapid.Int64Range(0, 1<<50).Draw(t, "size"))
		var s2 Size
		if err := s2.UnmarshalText([]byte(s.String())); err != nil || s2 != s {
			t.Fatalf("size %d printed %s read %d: %v", s, s, s2, err)
		}
		d := Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "duration"))
		var d2 Duration
		if err := d2.UnmarshalText([]byte(d.String())); err != nil || d2 != d {
			t.Fatalf("duration %d printed %s read %d: %v", d, d, d2, err)
		}
	})
}

func TestNearestKeyIsTheOneMeant(t *testing.T) {
	keys := keyPaths(reflect.TypeFor[Config](), "")
	for typed, want := range map[string]string{
		"lisen": "listen", "site.origin": "site.origins", "site.component.webhok": "site.component.webhook",
		"retention.max_age": "retention.age", "per_channel": "retention.per_channel", "site.limits.stream": "site.limits.streams",
	} {
		if got := nearest(typed, keys); got != want {
			t.Errorf("%s: nearest is %s, want %s", typed, got, want)
		}
	}
}

func TestCheckPrintsTheResultWithoutSecrets(t *testing.T) {
	path := filepath.Join(configDir, "valid", "design.toml")
	out := mustRun(t, "check", "--config", path)
	for _, want := range []string{`keys = ["k2.(hidden)", "k1.(hidden)"]`, `streams = 20000`, `per_channel = 10000`, `credentials = ["grant"]`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "AAECAwQF") || strings.Contains(out, "ICEiIyQl") {
		t.Errorf("a secret was printed:\n%s", out)
	}
	r := run(t, "", nil, "check", "--config", filepath.Join(configDir, "invalid", "log.toml"))
	if r.code != exitUsage || !strings.Contains(r.err, `"yaml" is not a form of log`) {
		t.Errorf("code %d: %s", r.code, r.err)
	}
}

func FuzzConfiguration(f *testing.F) {
	for _, kind := range []string{"valid", "invalid"} {
		files, _ := filepath.Glob(filepath.Join(configDir, kind, "*.toml"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, seen := DefaultConfig(), texts{}
		if err := seen.decodeText("fuzz.toml", text, c); err != nil {
			return
		}
		c.path = "fuzz.toml"
		for i := range c.Sites {
			c.Sites[i].file, c.Sites[i].nth = c.path, i
			c.Sites[i].CAFile = "" // no reading of files that the input names
			for j := range c.Sites[i].Components {
				c.Sites[i].Components[j].CAFile = ""
			}
		}
		c.TLSCert, c.TLSKey = "", ""
		if err := c.check(seen); err != nil {
			return
		}
		// What is taken can be served and printed.
		for id, site := range c.sites {
			if site.ID != id || len(site.Keys) == 0 || len(site.Salt) != 32 {
				t.Errorf("a site without what it needs was taken: %q", id)
			}
			if _, err := c.DSN(id); err != nil && c.Listen != listenSystemd && !strings.HasSuffix(c.Listen, ":0") {
				t.Errorf("no DSN for %q: %v", id, err)
			}
			c.Endpoint(id, broker.ComponentID("x"))
		}
		if _, err := c.effective(); err != nil {
			t.Error(err)
		}
	})
}
